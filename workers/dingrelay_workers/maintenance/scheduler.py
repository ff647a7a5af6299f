"""Publishes what is due on the schedule: parked jobs, lost wake-ups, jobs of dead workers."""

import asyncio

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_workers.maintenance.schedule import Schedule
from dingrelay_workers.metrics import SWEPT

LEASE = 5.0
"""Seconds after which another worker sweeps, if the one that did is gone."""
LONGEST_PAUSE = 0.25
"""Seconds between sweeps when nothing is due: what a job that becomes due meanwhile may wait."""
SHORTEST_PAUSE = 0.02
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the broker was away."""
BATCH = 500
"""Jobs that a sweep looks at: some milliseconds of Redis's time, and some 100 kB."""

log = get_logger("dingrelay.sweeper")


class Sweeper:
    """Sweeps in every worker, one at a time by a lease in Redis."""

    def __init__(self, schedule: Schedule, publisher: Publisher, *, worker: str) -> None:
        self._schedule = schedule
        self._publisher = publisher
        self._worker = worker
        self._published = ""

    async def run(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                pause = await self.sweep()
            except (RedisError, OSError) as error:
                log.warning("sweep_failed", reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await asyncio.sleep(pause)

    async def sweep(self) -> float:
        """Sweep once; seconds until the next time."""
        found = await self._schedule.sweep(
            self._worker, lease=LEASE, most=BATCH, published=self._published
        )
        if not found.mine:
            return LEASE / 5
        if found.wakeups:
            published = await asyncio.to_thread(self._publisher.publish, found.wakeups)
            SWEPT.inc(published)
            log.debug("swept", wakeups=len(found.wakeups), published=published)
            if published < len(found.wakeups):
                return FAILURE_PAUSE
        self._published = found.batch
        if found.next_due is None:
            return LONGEST_PAUSE
        return min(max(found.next_due, SHORTEST_PAUSE), LONGEST_PAUSE)

    async def stop(self) -> None:
        """Let another worker sweep at once."""
        await self._schedule.release(self._worker)
