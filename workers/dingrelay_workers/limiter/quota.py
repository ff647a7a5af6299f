"""Monthly quota of an organisation: calls are counted, and the last ones reserved for urgent jobs (API §6).

Webhook & Stream messages are counted apart from them: what robots post by webhooks, and events that DingTalk pushes.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.keys import quota as quota_key
from dingrelay_producers.store.scripts import run_async
from dingrelay_tasks import beijing
from dingrelay_tasks.contract import Lane
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import QuotaExhausted
from dingrelay_workers.limiter import transitions
from dingrelay_workers.limiter.transitions import Count

SHARES: Mapping[Lane, float] = {"bulk": 0.90, "normal": 0.98, "urgent": 1.0}
"""Share of the month's calls at which a lane stops, so that the others still have some."""
CALLS, PUSHES = "calls", "pushes"
"""The counters: calls, and Webhook & Stream messages."""
MONTH = len("2026-11")
"""Characters of a day that are its month."""
FRESH = 1.0
"""Seconds for which a read count is good enough: no call waits for a question of its own."""
KEPT_DAYS = 2
"""Days of which a process knows what it has counted: a better reading of DingTalk's clock may lead back over midnight."""
FLUSH_EVERY = 0.2
"""Seconds for which calls are counted here before they are reported to the fleet."""


def robot_share(name: str) -> str:
    """Name of the counter of one robot's messages."""
    return f"robot:{name}"


class MonthCount(BaseModel):
    """Usage of an organisation's month."""

    organisation: str
    counts: str
    """``calls``, ``pushes`` (Webhook & Stream messages) or ``robot:NAME``, where that has a month of its own."""
    used: int
    limit: int | None
    expected: int = 0
    """Estimate for the end of the month, at the pace so far."""
    days: dict[str, int] = {}
    """Beijing day, such as ``2026-11-24``, with any use → what was used on it."""


class Quota:
    """The monthly counter of each organisation, seen from one process and its event loop.

    A process reports what it has counted since the day began, and Redis adds what it does not have of that. So a report
    whose answer is lost can be repeated, and one that a failover has taken back comes with the next.
    """

    def __init__(
        self,
        redis: Redis,
        settings: Settings,
        *,
        now: Callable[[], Awaitable[datetime]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sends nothing to Redis yet.

        Args:
            redis: where the counters are.
            settings: the edition, and with it the calls of a month.
            now: DingTalk's time, whose month it is; that of the fleet's readings if not given.
            clock: seconds that only grow.
        """
        self._redis = redis
        self._settings = settings
        self._monthly = settings.quota.monthly_calls
        self._now = now or DingTalkClock(redis).now
        self._clock = clock
        self._process = uuid4().hex
        # Not known to the fleet: all of it, and the part that is of no day yet.
        self._pending: Counter[tuple[str, str]] = Counter()
        self._undated: Counter[tuple[str, str]] = Counter()
        # (organisation, day) → counter → what this process has counted, and how much of it is not reported.
        self._days: dict[tuple[str, str], Counter[str]] = {}
        self._unreported: dict[tuple[str, str], Counter[str]] = {}
        # The fleet's count, its month, and when it was read.
        self._readings: dict[tuple[str, str], tuple[int, str, float]] = {}
        self._reading = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    async def check(
        self, organisation: str, lane: Lane, *, counts: str = CALLS, limit: int | None = None
    ) -> None:
        """Stop a call that the rest of the month is not meant for.

        Args:
            organisation: whose month it is.
            lane: of the job.
            counts: what the call is counted as.
            limit: of that in a month; of calls that of the edition.

        Raises:
            QuotaExhausted: the lane's share of the month is used up.
            RedisError: the count can't be read.
        """
        most = self._monthly if counts == CALLS else limit
        if most is None:
            return
        used = await self._about(organisation, counts)
        if used >= most * SHARES[lane]:
            raise QuotaExhausted(
                "quota",
                en(
                    "{} of {} calls of this month are used; {} jobs stop at {:.0%}",
                    used,
                    most,
                    lane,
                    SHARES[lane],
                ),
                hint=en(
                    "wait for the next month, or raise [quota] edition or the robot's month; then requeue the job"
                ),
            )

    def count(self, organisation: str, *counts: str) -> None:
        """Note one of each of these, calls if none is named. It reaches the fleet within `FLUSH_EVERY`."""
        for name in counts or (CALLS,):
            self._pending[organisation, name] += 1
            self._undated[organisation, name] += 1
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._keep_flushing())

    async def used(self, organisation: str, counts: str = CALLS) -> int:
        """The count of this month, of the whole fleet."""
        month = beijing.month(await self._now())
        count = await self._redis.hget(quota_key(organisation, month), counts)
        return int(count or 0) + self._pending[organisation, counts]

    async def months(self) -> list["MonthCount"]:
        """Usage of the organisations of the settings, and of robots that have a limit of their own."""
        settings, limits = self._settings, dict[tuple[str, str], int | None]()
        for organisation in settings.organisations:
            limits[organisation, CALLS] = settings.quota.monthly_calls
            limits[organisation, PUSHES] = settings.quota.monthly_pushes
        for name, robot in settings.robots.items():
            if robot.month:
                limits[robot.organisation, robot_share(name)] = robot.month
        now = await self._now()
        month, fleet = beijing.month(now), dict[str, dict[str, int]]()
        for organisation in {organisation for organisation, _ in limits}:
            fields: dict[Any, Any] = await self._redis.hgetall(quota_key(organisation, month))
            fleet[organisation] = {name.decode(): int(count) for name, count in fields.items()}
        months: list[MonthCount] = []
        for (organisation, counted), limit in limits.items():
            used = fleet[organisation].get(counted, 0) + self._pending[organisation, counted]
            days = {
                name.removeprefix(f"{counted}:"): count
                for name, count in sorted(fleet[organisation].items())
                if name.startswith(f"{counted}:{month}")
            }
            expected = round(used / beijing.share_of_month(now))
            months.append(
                MonthCount(
                    organisation=organisation,
                    counts=counted,
                    used=used,
                    limit=limit,
                    expected=expected,
                    days=days,
                )
            )
        return months

    async def close(self) -> None:
        """Report to the fleet what is still counted here only.

        Raises:
            RedisError: it can't be reported.
        """
        self._closing.set()
        if self._flusher is not None:
            await self._flusher
        await self._flush()

    async def _about(self, organisation: str, counts: str) -> int:
        month = beijing.month(await self._now())
        async with self._reading:
            count, read_month, at = self._readings.get((organisation, counts), (0, "", 0.0))
            if read_month != month or self._clock() - at > FRESH:
                stored_count = await self._redis.hget(quota_key(organisation, month), counts)
                count = int(stored_count or 0)
                self._readings[organisation, counts] = count, month, self._clock()
        return count + self._pending[organisation, counts]

    async def _keep_flushing(self) -> None:
        while self._pending and not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_EVERY):
                    await self._closing.wait()
            # Calls that can't be reported stay here and are reported with the next ones.
            with suppress(RedisError):
                await self._flush()

    async def _flush(self) -> None:
        if not self._pending:
            return
        today = beijing.day(await self._now())
        undated, self._undated = self._undated, Counter()
        for (organisation, counter), number in undated.items():
            for counts in (self._days, self._unreported):
                counts.setdefault((organisation, today), Counter())[counter] += number
        for organisation, day in [*self._unreported]:
            await self._report(organisation, day)
        latest = sorted({day for _, day in self._days})[-KEPT_DAYS:]
        for place in [place for place in self._days if place[1] not in latest]:
            del self._days[place]

    async def _report(self, organisation: str, day: str) -> None:
        """Have the fleet count what this process has counted of an organisation on a day.

        Raises:
            RedisError: it can't be reported, or the answer is lost.
        """
        month = day[:MONTH]
        call = transitions.count_month(
            month=quota_key(organisation, month),
            reports=keys.quota_reports(organisation, day),
            month_ttl=keys.QUOTA_TTL_MS,
            reports_ttl=keys.QUOTA_REPORTS_TTL_MS,
            day=day,
            process=self._process,
            counts=[Count(*pair) for pair in self._days[organisation, day].items()],
        )
        await run_async(self._redis, call)
        for counter, number in self._unreported.pop((organisation, day), {}).items():
            self._pending[organisation, counter] -= number
            count, read_month, at = self._readings.get((organisation, counter), (0, "", 0.0))
            if read_month == month:
                self._readings[organisation, counter] = count + number, month, at
        self._pending = +self._pending
