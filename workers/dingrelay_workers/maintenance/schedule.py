"""Where open jobs wait: what is due there, what was lost, and which queues have workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup, transition
from dingrelay_producers.store.scripts import run_async
from dingrelay_workers.store.records import progress_slot

_SCHEDULE = transition("dingrelay_workers.maintenance", "schedule")

LONGEST_PROBE_PAUSE_MS = 3_600_000
"""A queue that is served but starts nothing gets a wake-up an hour at most."""


@dataclass(frozen=True, slots=True)
class DueBatch:
    """The jobs that were due.

    Attributes:
        mine: whether this worker is the scheduler; another one is otherwise.
        wakeups: messages to publish now.
        batch: their name; the next call confirms by it that they were published.
        next_due: seconds until the next look is due; None if nothing is scheduled.
    """

    mine: bool
    wakeups: list[Wakeup]
    batch: str
    next_due: float | None


class Schedule:
    """The places of open jobs in Redis (`store/lua/places.lua`)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._grace = int(settings.lease * 1000)
        self._slot = progress_slot(settings)

    async def serve(self, queues: Sequence[str], *, ttl: float, new: bool) -> None:
        """Mark these queues as served by a worker, for `ttl` seconds.

        Args:
            queues: that it consumes.
            ttl: seconds.
            new: whether it may not have started the jobs that wait in them; such a mark replaces
                no other one.
        """
        pipe = self._redis.pipeline(transaction=False)
        for queue in queues:
            pipe.set(keys.alive(queue), keys.NEW if new else 1, px=int(ttl * 1000), nx=new)
        await pipe.execute()

    async def take_due(
        self, worker: str, *, lease: float, most: int, published: str = ""
    ) -> DueBatch:
        """Take the jobs that must be woken, if no other worker is the scheduler.

        Args:
            worker: which would be the scheduler.
            lease: seconds after which another worker may.
            most: jobs to look at: it bounds how long Redis is blocked.
            published: the last batch whose wake-ups were all published; a later one comes again,
                and nothing else until it is.
        """
        answer = await run_async(
            self._redis,
            _SCHEDULE.call(
                [keys.SCHEDULER, keys.UNPUBLISHED],
                [
                    worker,
                    int(lease * 1000),
                    most,
                    self._grace,
                    self._slot,
                    LONGEST_PROBE_PAUSE_MS,
                    keys.UNPUBLISHED_TTL_MS,
                    published,
                ],
            ),
        )
        if not answer[0]:
            return DueBatch(mine=False, wakeups=[], batch="", next_due=None)
        wakeups = [_wakeup(*fields) for fields in answer[3:]]
        next_due = None if answer[1] < 0 else answer[1] / 1000
        return DueBatch(True, wakeups, answer[2].decode(), next_due)

    async def release(self, worker: str) -> None:
        """Let another worker schedule at once."""
        if await self._redis.get(keys.SCHEDULER) == worker.encode():
            await self._redis.delete(keys.SCHEDULER)


def _wakeup(*fields: Any) -> Wakeup:
    """A wake-up as the script answers it: texts, and a time."""
    job_id, kind, queue, app, lane, summary = (text.decode() for text in fields[:-1])
    return Wakeup(job_id, kind, queue, app, lane, summary, at=fields[-1])
