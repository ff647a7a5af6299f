"""Publishes what is due on the schedule: parked jobs, lost wake-ups, jobs of dead workers."""

import asyncio

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_workers.limiter.turns import ParkedJobs
from dingrelay_workers.maintenance.schedule import Schedule
from dingrelay_workers.metrics import WAKEUPS

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
        self._mine = False
        self._wake_at = 0.0

    async def run(self) -> None:
        """Publish what is due, for ever."""
        while True:
            try:
                pause = await self.publish_due()
            except (RedisError, OSError) as error:
                log.warning("schedule_failed", reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await asyncio.sleep(pause)

    async def publish_due(self) -> float:
        """Publish what is due, and what is woken for the next slots; seconds until the next time."""
        if self._mine:
            await self._wake_parked()
        found = await self._schedule.take_due(
            self._worker, lease=LEASE, most=BATCH, published=self._published
        )
        self._mine = found.mine
        if not found.mine:
            return LEASE / 5
        if found.wakeups:
            left = await asyncio.to_thread(self._publisher.publish, found.wakeups)
            published = len(found.wakeups) - len(left)
            WAKEUPS.inc(published)
            log.debug("wakeups_published", wakeups=len(found.wakeups), published=published)
            if left:
                return FAILURE_PAUSE
        self._published = found.batch
        if found.next_due is None:
            return LONGEST_PAUSE
        return min(max(found.next_due, SHORTEST_PAUSE), LONGEST_PAUSE)

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
