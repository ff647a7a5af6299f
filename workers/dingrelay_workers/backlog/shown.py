"""What waits, as the metrics of all processes show it: one of them counts at a time."""

import json
import time
from collections.abc import Collection, Mapping

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_workers.backlog.overview import STATES, read
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.metrics import WaitingJobs

EVERY = 15.0
"""Seconds between two counts."""
MOST = 20_000
"""Jobs of a place that are looked at; of more a sample."""
SHARE = 0.02
"""Share of the time that is spent with counting at most, waiting for Redis included."""

Quotas = Mapping[str, tuple[int, int | None]]
"""Organisation → calls of this month, and how many there may be (None: any number)."""


class Shown:
    """Counts, or reads what another process has counted."""

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        quota: Quota,
        organisations: Collection[str],
        limit: int | None,
    ) -> None:
        self._redis = redis
        self._rules = rules
        self._quota = quota
        self._organisations = sorted(organisations)
        self._limit = limit

    async def current(self) -> tuple[list[WaitingJobs], Quotas]:
        """What waits, and the month's calls; nothing where nobody has counted yet.

        Raises:
            RedisError: Redis cannot be reached.
        """
        if await self._redis.set(keys.BACKLOG_READER, 1, nx=True, px=int(EVERY * 1000)):
            await self._count()
        text = await self._redis.get(keys.BACKLOG)
        if text is None:
            return [], {}
        told = json.loads(text)
        lanes = [WaitingJobs(*lane) for lane in told["lanes"]]
        return lanes, {name: (used, limit) for name, used, limit in told["quotas"]}

    async def _count(self) -> None:
        began = time.monotonic()
        counted, lanes = await read(self._redis, self._rules, most=MOST)
        told = {
            "lanes": [
                WaitingJobs(
                    lane.jobs.app,
                    lane.jobs.lane,
                    {state: getattr(lane.jobs, state) for state in STATES},
                    (counted.now - lane.jobs.since).total_seconds() if lane.jobs.since else 0.0,
                    lane.drain_seconds,
                )
                for lane in lanes
            ],
            "quotas": [
                (name, await self._quota.used(name), self._limit) for name in self._organisations
            ],
        }
        rest = max(EVERY, (time.monotonic() - began) / SHARE)
        await self._redis.set(keys.BACKLOG, canonical_json(told), px=int((rest + 3 * EVERY) * 1000))
        if rest > EVERY:
            await self._redis.pexpire(keys.BACKLOG_READER, int(rest * 1000))
