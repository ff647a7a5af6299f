"""Waiting jobs, as the metrics of all processes show them: one of them counts at a time."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.backlog.estimate import STATES, BacklogGroup, Tally, read
from dingrelay_workers.limiter.overview import read_pace
from dingrelay_workers.limiter.quota import MonthCount, Quota
from dingrelay_workers.metrics import OTHERS, UNNAMED, Series

EVERY = 15.0
"""Seconds between two counts."""
MOST = 20_000
"""Jobs of a place that are looked at; of more a sample."""
SHARE = 0.02
"""Share of the time that is spent with counting at most, waiting for Redis included."""
SENDERS = 10
"""Senders that are named: those with most jobs."""


class ShownBacklog:
    """Counts, or reads what another process has counted.

    Args:
        redis: of the fleet.
        settings: of this process, as of `read_pace`.
        quota: knows what is used of the month.
        apps: that get a label. Jobs may name others, and a client could make any number of series.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        quota: Quota,
        *,
        apps: Collection[str],
    ) -> None:
        self._redis = redis
        self._settings = settings
        self._quota = quota
        self._apps = apps

    async def current(self) -> Series:
        """Waiting jobs, and the month's calls; nothing before the first count.

        Raises:
            RedisError: Redis cannot be reached.
        """
        if await self._redis.set(keys.BACKLOG_READER, 1, nx=True, px=int(EVERY * 1000)):
            await self._count()
        shown: Series = json.loads(await self._redis.get(keys.BACKLOG) or "{}")
        return shown

    async def _count(self) -> None:
        began = time.monotonic()
        pace = await read_pace(self._redis, self._settings)
        counted, lanes = await read(self._redis, pace, most=MOST)
        shown = {
            **self._lanes(counted, lanes),
            "backlog_kind_jobs": _kinds(counted),
            "backlog_sender_jobs": self._senders(counted),
            "dead_jobs": [([], await self._redis.zcard(keys.DEAD))],
            "fleet_workers": [([], pace.rules.workers)],
            **_quotas(await self._quota.months()),
        }
        pause = max(EVERY, (time.monotonic() - began) / SHARE)
        await self._redis.set(
            keys.BACKLOG, canonical_json(shown), px=int((pause + 3 * EVERY) * 1000)
        )
        if pause > EVERY:
            await self._redis.pexpire(keys.BACKLOG_READER, int(pause * 1000))

    def _named(self, app: str) -> str:
        return app if app in self._apps else OTHERS

    def _lanes(self, counted: Tally, lanes: Iterable[BacklogGroup]) -> Series:
        """Applications that are not named count together."""
        jobs: Counter[tuple[str, str, str]] = Counter()
        oldest: dict[tuple[str, str], float] = {}
        drain: dict[tuple[str, str], float] = {}
        for lane in lanes:
            place, since = (self._named(lane.app), lane.lane), lane.since
            for state in STATES:
                jobs[*place, state] += getattr(lane, state)
            age = (counted.now - since).total_seconds() if since else 0.0
            oldest[place] = max(oldest.get(place, 0.0), age)
            if lane.drain_seconds is not None:
                drain[place] = max(drain.get(place, 0.0), lane.drain_seconds)
        return {
            "backlog_jobs": [*jobs.items()],
            "backlog_oldest_seconds": [*oldest.items()],
            "backlog_drain_seconds": [*drain.items()],
        }

    def _senders(self, counted: Tally) -> list[tuple[tuple[str, str], int]]:
        waiting: Counter[tuple[str, str]] = Counter()
        for group in counted.groups:
            waiting[self._named(group.app), group.sender or UNNAMED] += group.waiting
        largest = waiting.most_common(SENDERS)
        unlisted = waiting.total() - sum(jobs for _, jobs in largest)
        return [*(sender for sender in largest if sender[1]), ((OTHERS, OTHERS), unlisted)]


def _kinds(counted: Tally) -> list[tuple[tuple[str], int]]:
    waiting = dict.fromkeys((*KINDS, OTHERS), 0)
    for group in counted.groups:
        waiting[group.kind if group.kind in KINDS else OTHERS] += group.waiting
    return [((kind,), jobs) for kind, jobs in waiting.items()]


def _quotas(months: Iterable[MonthCount]) -> Series:
    series_by_name: dict[str, list[tuple[Sequence[str], float]]] = {}
    for month in months:
        figures = {"used": month.used, "limit": month.limit}
        for name, figure in figures.items():
            if figure is not None:
                series = series_by_name.setdefault(f"quota_{name}_{month.counts}", [])
                series.append(((month.organisation,), figure))
    return series_by_name
