"""Refuses jobs for a lane in which too many wait already."""

import asyncio
from collections.abc import Callable

from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.http.records import GatewayRecords

FRESH_SECONDS = 0.25
"""How old a count may be: many requests share a look."""
RETRY_AFTER_SECONDS = 10


class QueueDepths:
    """How many jobs wait in each queue, looked at a few times a second at most."""

    def __init__(self, records: GatewayRecords, limit: int, clock: Callable[[], float]) -> None:
        self._records = records
        self._limit = limit
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}
        self._looks: dict[str, asyncio.Lock] = {}

    async def check(self, queue: str) -> None:
        """Return if the queue has room.

        Raises:
            Problem: it has none (429).
            ServiceUnavailable: Redis is away.
        """
        if self._limit and await self._count(queue) >= self._limit:
            raise Problem(
                problems.QUEUE_FULL,
                f"{self._limit:,} jobs wait in {queue} already",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )

    async def _count(self, queue: str) -> int:
        if (fresh := self._fresh(queue)) is not None:
            return fresh
        async with self._looks.setdefault(queue, asyncio.Lock()):
            if (fresh := self._fresh(queue)) is not None:
                return fresh
            count = await self._records.waiting(queue)
            self._counts[queue] = (self._clock(), count)
            return count

    def _fresh(self, queue: str) -> int | None:
        at, count = self._counts.get(queue, (float("-inf"), 0))
        return count if self._clock() - at < FRESH_SECONDS else None
