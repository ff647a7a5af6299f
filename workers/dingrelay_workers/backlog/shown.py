"""Waiting jobs, as the metrics of all processes show them: one of them counts at a time."""

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.backlog.estimate import STATES, Backlog, Tally, read
from dingrelay_workers.limiter.overview import read_pace
from dingrelay_workers.limiter.quota import MonthCount, Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.metrics import OTHERS, UNNAMED, Waiting, WaitingJobs

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
        rules: stand in where no worker has published its own.
        quota: knows what is used of the month.
        apps: that get a label. Jobs may name others, and a client could make any number of series.
    """

    def __init__(
        self,
        redis: Redis,
        rules: Rules,
        quota: Quota,
        *,
        apps: Collection[str],
    ) -> None:
        self._redis = redis
        self._rules = rules
        self._quota = quota
        self._apps = apps

    async def current(self) -> Waiting:
        """Waiting jobs, and the month's calls; nothing before the first count.

        Raises:
            RedisError: Redis cannot be reached.
        """
        if await self._redis.set(keys.BACKLOG_READER, 1, nx=True, px=int(EVERY * 1000)):
            await self._count()
        text = await self._redis.get(keys.BACKLOG)
        if text is None:
            return Waiting()
        shown = json.loads(text)
        return Waiting(
            lanes=[WaitingJobs(*lane) for lane in shown["lanes"]],
            # An older worker, which may have counted, has none of these.
            kinds=shown.get("kinds", {}),
            senders=[(app, sender, jobs) for app, sender, jobs in shown.get("senders", ())],
            dead=shown.get("dead"),
            workers=shown.get("workers"),
            quotas=[MonthCount.model_validate(each) for each in shown.get("months", ())],
        )

    async def _count(self) -> None:
        began = time.monotonic()
        pace = await read_pace(self._redis, self._rules)
        counted, lanes = await read(self._redis, pace, most=MOST)
        shown = {
            "lanes": self._lanes(counted, lanes),
            "kinds": _kinds(counted),
            "senders": self._senders(counted),
            "dead": await self._redis.zcard(keys.DEAD),
            "workers": pace.rules.workers,
            "months": [month.model_dump() for month in await self._quota.months()],
            # An older worker reads these.
            "quotas": [],
        }
        rest = max(EVERY, (time.monotonic() - began) / SHARE)
        await self._redis.set(
            keys.BACKLOG, canonical_json(shown), px=int((rest + 3 * EVERY) * 1000)
        )
        if rest > EVERY:
            await self._redis.pexpire(keys.BACKLOG_READER, int(rest * 1000))

    def _named(self, app: str) -> str:
        return app if app in self._apps else OTHERS

    def _lanes(self, counted: Tally, lanes: Iterable[Backlog]) -> list[WaitingJobs]:
        found: dict[tuple[str, str], WaitingJobs] = {}
        for lane in lanes:
            jobs = lane.jobs
            each = WaitingJobs(
                self._named(jobs.app),
                jobs.lane,
                {state: getattr(jobs, state) for state in STATES},
                (counted.now - jobs.since).total_seconds() if jobs.since else 0.0,
                lane.drain_seconds,
            )
            name = each.app, each.lane
            found[name] = _together(found[name], each) if name in found else each
        return list(found.values())

    def _senders(self, counted: Tally) -> list[tuple[str, str, int]]:
        waiting: Counter[tuple[str, str]] = Counter()
        for group in counted.groups:
            waiting[self._named(group.app), group.sender or UNNAMED] += group.waiting
        named = [(app, sender, jobs) for (app, sender), jobs in waiting.most_common(SENDERS)]
        rest = waiting.total() - sum(jobs for *_, jobs in named)
        return [*(each for each in named if each[2]), (OTHERS, OTHERS, rest)]


def _kinds(counted: Tally) -> dict[str, int]:
    waiting = dict.fromkeys((*KINDS, OTHERS), 0)
    for group in counted.groups:
        waiting[group.kind if group.kind in KINDS else OTHERS] += group.waiting
    return waiting


def _together(one: WaitingJobs, other: WaitingJobs) -> WaitingJobs:
    """Two applications that are not named, in the same lane."""
    drains = [each.drain_seconds for each in (one, other) if each.drain_seconds is not None]
    return one._replace(
        jobs={state: one.jobs[state] + other.jobs[state] for state in one.jobs},
        oldest_seconds=max(one.oldest_seconds, other.oldest_seconds),
        drain_seconds=max(drains, default=None),
    )
