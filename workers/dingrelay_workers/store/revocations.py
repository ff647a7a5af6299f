"""Jobs that Celery's remote commands revoke, such as the button of Flower."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.verbs import Audit
from dingrelay_producers.errors import (
    JobConflict,
    JobNotFound,
    ServiceUnavailable,
    UnreadableRecord,
)
from dingrelay_producers.installed import service
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.flows import run_flow_async, run_step_async
from dingrelay_producers.store.states import State
from dingrelay_workers.store.connections import RedisRetry

FLOWER = Actor("python", "flower", "Flower")
"""Actor of remote commands: Celery does not say who sends one."""
DONE, DONE_TTL_MS = b"", 60_000
"""Mark of a job that was revoked, for workers that receive the command later (ms): it is in the audit."""

log = get_logger("dingrelay.records")


class Revocations:
    """Cancels jobs, as `Jobs.cancel` does.

    Each worker of a fleet receives a command and carries it out; the one whose mark the job has writes it into the
    audit. The message of a bare Celery client may still be on its way to its first worker: the mark waits
    for the record that it will get.

    Args:
        worker: name of this process.
    """

    def __init__(self, redis: Redis, settings: Settings, retry: RedisRetry, *, worker: str) -> None:
        self._redis = redis
        self._settings = settings
        self._retry = retry
        self._mark = worker.encode()
        self._jobs = Jobs(settings)

    async def revoke(
        self, ids: Iterable[str], on_cancelled: Callable[[str], object] = lambda _: None
    ) -> None:
        """Cancel these jobs; calls `on_cancelled` for each cancelled now, not for one that runs."""
        for job_id in ids:
            try:
                # The mark comes first: a record made in between reads it, or is found here.
                is_ours = await self._retry.finish(partial(self._set_mark, job_id))
                cancelled = await self._cancel(job_id, audited=is_ours)
            except (RedisError, OSError) as error:
                log.error("not_revoked", id=job_id, reason=type(error).__name__)  # noqa: TRY400
            else:
                if cancelled:
                    on_cancelled(job_id)

    async def made(self, job_id: str) -> None:
        """The job has got its record: cancel it if it was revoked before."""
        if await self._redis.get(keys.revoked(job_id)):
            await self._cancel(job_id, audited=True)

    async def _set_mark(self, job_id: str) -> bool:
        """Mark a job unless it is; whether its mark is that of this worker."""
        mark = keys.revoked(job_id)
        await self._redis.set(mark, self._mark, px=keys.REVOKED_TTL_MS, nx=True)
        return bool(await self._redis.get(mark) == self._mark)

    async def _cancel(self, job_id: str, *, audited: bool) -> bool:
        actor = ACTOR.set(FLOWER)
        state = ""
        try:
            make = partial(self._make, audited=audited)
            state = (await run_flow_async(self._jobs.cancel(job_id), make)).state
        except JobConflict as error:
            state = error.state
        except JobNotFound:
            log.info("revoked", id=job_id, state="unknown")
            return False
        except UnreadableRecord as error:
            log.warning("not_revoked", id=job_id, reason=str(error))
        finally:
            ACTOR.reset(actor)
        await self._redis.set(keys.revoked(job_id), DONE, px=DONE_TTL_MS)
        log.info("revoked", id=job_id, state=state)
        return state == State.CANCELLED

    async def _make(self, step: Any, *, audited: bool) -> Any:
        match step:
            case Audit():
                return await self._note(step) if audited else None
            case calls:
                return await self._retry.finish(partial(run_step_async, self._redis, calls))

    async def _note(self, change: Audit) -> None:
        """Write a change into the audit. Without a database it is made all the same."""
        try:
            # Loaded in a thread: SQLAlchemy would hold all jobs up.
            audit = await asyncio.to_thread(service, "AuditService", self._settings)
            await audit.note(**change._asdict())
        except ServiceUnavailable as error:
            FLOWER.on_unaudited(str(error))
