"""Publishes what is due on the schedule: parked jobs, lost wake-ups, jobs of dead workers."""

import asyncio

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_workers.maintenance.schedule import Schedule
from dingrelay_workers.metrics import WAKEUPS

LEASE = 5.0
"""Seconds after which another worker schedules, if the one that did is gone."""
LONGEST_PAUSE = 0.25
"""Seconds between two looks when nothing is due: what a job that becomes due meanwhile may wait."""
SHORTEST_PAUSE = 0.02
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the broker was away."""
BATCH = 500
"""Most jobs that are looked at together: some milliseconds of Redis's time, and some 100 kB."""

log = get_logger("dingrelay.scheduler")


class Scheduler:
    """Publishes what is due, in every worker, one at a time by a lease in Redis."""

    def __init__(self, schedule: Schedule, publisher: Publisher, *, worker: str) -> None:
        self._schedule = schedule
        self._publisher = publisher
        self._worker = worker
        self._published = ""

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
        """Publish what is due; seconds until the next time."""
        found = await self._schedule.take_due(
            self._worker, lease=LEASE, most=BATCH, published=self._published
        )
        if not found.mine:
            return LEASE / 5
        if found.wakeups:
            published = await asyncio.to_thread(self._publisher.publish, found.wakeups)
            WAKEUPS.inc(published)
            log.debug("wakeups_published", wakeups=len(found.wakeups), published=published)
            if published < len(found.wakeups):
                return FAILURE_PAUSE
        self._published = found.batch
        if found.next_due is None:
            return LONGEST_PAUSE
        return min(max(found.next_due, SHORTEST_PAUSE), LONGEST_PAUSE)

    async def stop(self) -> None:
        """Let another worker schedule at once."""
        await self._schedule.release(self._worker)
