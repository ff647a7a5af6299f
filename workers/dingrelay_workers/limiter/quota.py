"""The organisation's calls of the month: counted, and kept for what matters most (API §6)."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.keys import QUOTA_TTL_MS
from dingrelay_producers.store.keys import quota as quota_key
from dingrelay_tasks import beijing
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.errors import QuotaExhausted

SHARES: Mapping[Lane, float] = {"bulk": 0.90, "normal": 0.98, "urgent": 1.0}
"""Share of the month's calls at which a lane stops, so that the others still have some."""
FIELD = "calls"
FRESH = 1.0
"""Seconds for which a read count is good enough: no call waits for a question of its own."""
FLUSH_EVERY = 0.2
"""Seconds for which calls are counted here before they are reported to the fleet."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A count of the fleet's, and when it was read."""

    calls: int
    month: str
    at: float


class Quota:
    """The monthly counter of each organisation, seen from one process and its event loop."""

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        now: Callable[[], datetime] = beijing.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing to Redis yet.

        Args:
            redis: where the counters are.
            settings: the edition, and with it the calls of a month.
            now: the present, which decides the month.
            clock: seconds that only grow.
        """
        self._redis = redis
        self._monthly = settings.quota.monthly_calls
        self._now = now
        self._clock = clock
        self._pending: Counter[tuple[str, str]] = Counter()
        self._readings: dict[str, Reading] = {}
        self._reading = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def check(self, organisation: str, lane: Lane) -> None:
        """Stop a call that the rest of the month is not meant for.

        Raises:
            QuotaExhausted: the lane's share of the month is used up.
            RedisError: the count can't be read.
        """
        if self._monthly is None:
            return
        used = await self._about(organisation)
        if used >= self._monthly * SHARES[lane]:
            raise QuotaExhausted(
                "quota",
                en(
                    "{} of {} calls of this month are used; {} jobs stop at {:.0%}",
                    used,
                    self._monthly,
                    lane,
                    SHARES[lane],
                ),
                hint=en("wait for the next month or raise [quota] edition, then requeue the job"),
            )

    def count(self, organisation: str) -> None:
        """Note one answered call that counts. It reaches the fleet within `FLUSH_EVERY`."""
        self._pending[organisation, beijing.month(self._now())] += 1
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._keep_flushing())

    async def used(self, organisation: str) -> int:
        """The calls of this month, of the whole fleet."""
        month = beijing.month(self._now())
        count = await self._redis.hget(quota_key(organisation, month), FIELD)
        return int(count or 0) + self._pending[organisation, month]

    async def close(self) -> None:
        """Report to the fleet what is still counted here only.

        Raises:
            RedisError: it can't be reported.
        """
        self._closing.set()
        if self._flusher is not None:
            await self._flusher
        await self._flush()

    async def _about(self, organisation: str) -> int:
        month = beijing.month(self._now())
        async with self._reading:
            reading = self._readings.get(organisation)
            stale = reading is None or self._clock() - reading.at > FRESH
            if reading is None or stale or reading.month != month:
                count = await self._redis.hget(quota_key(organisation, month), FIELD)
                reading = Reading(int(count or 0), month, self._clock())
                self._readings[organisation] = reading
        return reading.calls + self._pending[organisation, month]

    async def _keep_flushing(self) -> None:
        while self._pending and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY):
                    await self._closing.wait()
            # Calls that can't be reported stay here and are reported with the next ones.
            with suppress(RedisError):
                await self._flush()

    async def _flush(self) -> None:
        counts, self._pending = self._pending, Counter()
        if not counts:
            return
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for (organisation, month), calls in counts.items():
                    key = quota_key(organisation, month)
                    pipe.hincrby(key, FIELD, calls)
                    pipe.pexpire(key, QUOTA_TTL_MS)
                await pipe.execute()
        except RedisError:
            # An answer that was lost counts twice: better than a call too many.
            self._pending.update(counts)
            raise
        for (organisation, month), calls in counts.items():
            reading = self._readings.get(organisation)
            if reading is not None and reading.month == month:
                self._readings[organisation] = Reading(reading.calls + calls, month, reading.at)
