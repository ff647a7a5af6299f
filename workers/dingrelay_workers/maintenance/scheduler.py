"""The schedule: where open jobs wait, what is due there or was lost, and who publishes that.

A scheduler runs in every worker, one at a time by a lease in Redis.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import round_trip, run_async
from dingrelay_producers.store.transitions import PAUSES
from dingrelay_workers.limiter.slot import ParkedJobs
from dingrelay_workers.maintenance.pace import in_step
from dingrelay_workers.metrics import WAKEUPS
from dingrelay_workers.store.records import progress_slot


@script("dingrelay_workers.maintenance", PAUSES)
def _schedule(
    *,
    scheduler: Key,
    batch: Key,
    worker: str,
    lease: int,
    most: int,
    grace: int,
    slot: int,
    longest: int,
    batch_ttl: int,
    published: str,
) -> None:
    """Look at `most` jobs; a `slot` is of a queue's progress, and `longest` the pause between two probes (all in ms).

    `published` is the name of the batch that was.
    """


LONGEST_PROBE_PAUSE_MS = 3_600_000
"""A queue that is served but starts nothing gets a wake-up an hour at most."""


@dataclass(frozen=True, slots=True)
class DueBatch:
    """The jobs that were due.

    Attributes:
        wakeups: messages to publish now.
        batch: their name; the next call confirms by it that they were published.
        next_due: seconds until the next look is due; None if nothing is scheduled.
        parked: whether jobs are parked in any lane.
    """

    wakeups: list[Wakeup]
    batch: str
    next_due: float | None
    parked: bool


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
        mark, unless_marked = (keys.NEW, ("NX",)) if new else ("1", ())
        lives = int(ttl * 1000)
        commands = [
            ("SET", keys.alive(queue), mark, "PX", lives, *unless_marked) for queue in queues
        ]
        for answer in await round_trip(self._redis, commands):
            if isinstance(answer, RedisError):
                raise answer

    async def take_due(
        self, worker: str, *, lease: float, most: int, published: str = ""
    ) -> DueBatch | None:
        """Take the jobs that must be woken; None if another worker is the scheduler.

        Args:
            worker: which would be the scheduler.
            lease: seconds after which another worker may.
            most: jobs to look at: it bounds how long Redis is blocked.
            published: the last batch whose wake-ups were all published; a later one comes again,
                and nothing else until it is.
        """
        call = _schedule(
            scheduler=keys.SCHEDULER,
            batch=keys.UNPUBLISHED,
            worker=worker,
            lease=int(lease * 1000),
            most=most,
            grace=self._grace,
            slot=self._slot,
            longest=LONGEST_PROBE_PAUSE_MS,
            batch_ttl=keys.UNPUBLISHED_TTL_MS,
            published=published,
        )
        answer = await run_async(self._redis, call)
        if not answer[0]:
            return None
        _, milliseconds, name, parked, *due = answer
        wakeups = [_wakeup(*fields) for fields in due]
        next_due = None if milliseconds < 0 else milliseconds / 1000
        return DueBatch(wakeups, name.decode(), next_due, bool(parked))

    async def release(self, worker: str) -> None:
        """Let another worker schedule at once."""
        if await self._redis.get(keys.SCHEDULER) == worker.encode():
            await self._redis.delete(keys.SCHEDULER)


def _wakeup(*fields: Any) -> Wakeup:
    """A wake-up as the script answers it: texts, and a time."""
    job_id, kind, queue, app, lane, summary = (text.decode() for text in fields[:-1])
    return Wakeup(job_id, kind, queue, app, lane, summary, at=fields[-1])


LEASE = 5.0
"""Seconds after which another worker schedules, if the one that did is gone. The same in all
releases that share a Redis: a longer one shows that its clock has stepped back (`schedule.lua`)."""
LONGEST_PAUSE = 0.25
"""Seconds between two looks when nothing is due: the most that a job due in between waits."""
SHORTEST_PAUSE = 0.01
WAKE_PAUSE = 0.1
"""Seconds between two looks at parked jobs: they are woken a second before their slots."""
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the broker was away."""
BATCH = 100
"""Most jobs that are looked at together: they block Redis for one or two milliseconds."""

log = get_logger("dingrelay.scheduler")


class Scheduler:
    """Publishes what is due, in every worker, one at a time by a lease in Redis."""

    def __init__(
        self, schedule: Schedule, parked: ParkedJobs, publisher: Publisher, *, worker: str
    ) -> None:
        self._schedule = schedule
        self._parked = parked
        self._publisher = publisher
        self._worker = worker
        self._published = ""
        self._has_parked = False
        self._wake_at = 0.0

    async def run(self) -> None:
        """Publish what is due, for ever."""
        since = time.monotonic()
        while True:
            try:
                pause = await self.publish_due()
            except (RedisError, OSError) as error:
                log.warning("schedule_failed", reason=type(error).__name__)
                pause = FAILURE_PAUSE
            if pause < LONGEST_PAUSE:
                await asyncio.sleep(pause)
            else:
                await in_step(since, pause)

    async def publish_due(self) -> float:
        """Publish what is due, and what is woken for the next slots; seconds until the next time."""
        if self._has_parked:
            await self._wake_parked()
        due_batch = await self._schedule.take_due(
            self._worker, lease=LEASE, most=BATCH, published=self._published
        )
        self._has_parked = due_batch is not None and due_batch.parked
        if due_batch is None:
            return LEASE / 5
        if due_batch.wakeups:
            untaken = await self._publisher.publish_on_loop(due_batch.wakeups)
            published = len(due_batch.wakeups) - len(untaken)
            WAKEUPS.inc(published)
            log.debug("wakeups_published", wakeups=len(due_batch.wakeups), published=published)
            if untaken:
                return FAILURE_PAUSE
        self._published = due_batch.batch
        if due_batch.next_due is None:
            return LONGEST_PAUSE
        return min(max(due_batch.next_due, SHORTEST_PAUSE), LONGEST_PAUSE)

    async def _wake_parked(self) -> None:
        """Wake who has a slot soon. Should that fail, what is due must be published all the same."""
        now = asyncio.get_running_loop().time()
        if now < self._wake_at:
            return
        self._wake_at = now + WAKE_PAUSE
        try:
            await self._parked.wake()
        except (RedisError, OSError) as error:
            log.warning("parked_not_woken", reason=type(error).__name__)

    async def stop(self) -> None:
        """Let another worker schedule at once."""
        await self._schedule.release(self._worker)
