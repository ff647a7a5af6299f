"""Jobs that are revoked by their Celery task id, with or without a record."""

from collections.abc import Callable, Iterable
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_workers.store.patience import Patience

log = get_logger("dingrelay.jobs")


class Revocations:
    """Cancels jobs in their records.

    The message of a bare Celery client may still be on its way to its first worker: a note waits
    for the record that it will get.
    """

    def __init__(self, redis: Redis, settings: Settings, patience: Patience) -> None:
        self._redis = redis
        self._record_ttl = int(settings.record_ttl * 1000)
        self._dead_ttl = int(settings.dead_ttl * 1000)
        self._patience = patience

    async def revoke(
        self, ids: Iterable[str], on_cancelled: Callable[[str], object] = lambda _: None
    ) -> None:
        """Cancel these jobs; calls `on_cancelled` for each cancelled now, not for one that runs."""
        for job_id in ids:
            try:
                cancelled = await self._patience.finish(partial(self._cancel, job_id))
            except (RedisError, OSError) as error:
                log.error("not_revoked", id=job_id, reason=type(error).__name__)  # noqa: TRY400
            else:
                if cancelled:
                    on_cancelled(job_id)

    async def made(self, job_id: str) -> None:
        """The job has got its record: cancel it if it was revoked before."""
        if await self._redis.get(keys.revoked(job_id)):
            await self._cancel(job_id)

    async def _cancel(self, job_id: str) -> bool:
        # The mark comes first: a record made in between reads it, or is found here.
        await self._redis.set(keys.revoked(job_id), 1, px=keys.REVOKED_TTL_MS)
        call = record.cancel(job_id, record_ttl_ms=self._record_ttl, dead_ttl_ms=self._dead_ttl)
        state = await run_async(self._redis, call)
        if state is None:
            log.info("revoked", id=job_id, state="unknown")
            return False
        await self._redis.delete(keys.revoked(job_id))
        log.info("revoked", id=job_id, state=state.decode())
        if state == record.NEWER:
            return False
        return State(state.decode()) == State.CANCELLED
