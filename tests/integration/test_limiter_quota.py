"""The calls of a month: counted, and stopped lane by lane before they run out."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from acceptance.black_hole import BlackHole
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import QuotaSettings
from dingrelay_producers.store import keys
from dingrelay_tasks.contract import LANES, Lane
from dingrelay_workers.dingtalk.errors import QuotaExhausted
from dingrelay_workers.limiter.quota import Quota

NOVEMBER = datetime(2026, 11, 30, 15, 59, tzinfo=UTC)
DECEMBER = datetime(2026, 11, 30, 16, 1, tzinfo=UTC)
"""Already December in Beijing."""
KEY = keys.quota("acme", "2026-11")


@dataclass
class Clock:
    moment: datetime = NOVEMBER
    seconds: float = 0

    async def now(self) -> datetime:
        return self.moment


Process = Callable[[str], Quota]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def process(redis: Redis, clock: Clock) -> AsyncIterator[Process]:
    """Make the quota of one more process."""
    made: list[Quota] = []

    def make(edition: str) -> Quota:
        settings = Settings.load(env="sandbox", quota=QuotaSettings(edition=edition))
        made.append(Quota(redis, settings, now=clock.now, clock=lambda: clock.seconds))
        return made[-1]

    yield make
    for quota in made:
        await quota.close()


async def use(redis: Redis, calls: int) -> None:
    """So many calls are used this month."""
    await redis.hset(KEY, "calls", str(calls))
    await redis.pexpire(KEY, 1000_000)


@pytest.mark.parametrize(
    ("used", "stopped"),
    [
        (899, set[Lane]()),
        (900, {"bulk"}),
        (979, {"bulk"}),
        (980, {"bulk", "normal"}),
        (999, {"bulk", "normal"}),
        (1000, {"bulk", "normal", "urgent"}),
    ],
)
async def test_lanes_stop_one_after_the_other(
    redis: Redis, process: Process, used: int, stopped: set[Lane]
) -> None:
    await use(redis, used)
    quota = process("1000")
    for lane in LANES:
        if lane in stopped:
            with pytest.raises(QuotaExhausted, match=f"{used} of 1000") as stop:
                await quota.check("acme", lane)
            assert stop.value.code == "quota"
        else:
            await quota.check("acme", lane)
    for lane in LANES:
        await quota.check("another", lane)


async def test_few_round_trips_count_calls(redis: Redis, process: Process) -> None:
    one, two = process("standard"), process("standard")
    for _ in range(300):
        one.count("acme")
    two.count("acme")
    assert await redis.hget(KEY, "calls") is None
    assert await one.used("acme") == 300
    await one.close()
    await two.close()
    assert await redis.hget(KEY, "calls") == b"301"
    assert await redis.pttl(KEY) > 31 * 86_400_000
    assert await two.used("acme") == 301


async def test_counts_arrive_unasked(redis: Redis, process: Process) -> None:
    quota = process("standard")
    quota.count("acme")
    assert quota._flusher is not None
    await quota._flusher
    assert await redis.hget(KEY, "calls") == b"1"


async def test_a_check_costs_a_round_trip_a_second_at_most(
    redis: Redis, clock: Clock, process: Process
) -> None:
    quota = process("1000")
    await quota.check("acme", "bulk")
    await use(redis, 900)
    for _ in range(100):
        await quota.check("acme", "bulk")
    clock.seconds = 1.1
    with pytest.raises(QuotaExhausted):
        await quota.check("acme", "bulk")


async def test_own_calls_count_at_once(process: Process) -> None:
    quota = process("10")
    for _ in range(9):
        await quota.check("acme", "bulk")
        quota.count("acme")
    with pytest.raises(QuotaExhausted):
        await quota.check("acme", "bulk")


async def test_the_month_turns_in_beijing(clock: Clock, process: Process) -> None:
    quota = process("1")
    quota.count("acme")
    with pytest.raises(QuotaExhausted):
        await quota.check("acme", "urgent")
    assert quota._flusher is not None
    await quota._flusher
    clock.moment = DECEMBER
    await quota.check("acme", "urgent")
    assert await quota.used("acme") == 0


async def test_calls_without_an_edition_are_only_counted(process: Process) -> None:
    quota = process("")
    for _ in range(10):
        await quota.check("acme", "bulk")
        quota.count("acme")
    assert await quota.used("acme") == 10


async def test_the_month_is_counted_by_day_and_forecast(
    redis: Redis, clock: Clock, process: Process
) -> None:
    clock.moment = datetime(2026, 11, 15, 16, tzinfo=UTC)  # half of the month is over
    quota = process("1000")
    (of,) = quota._settings.organisations
    quota.count(of)
    await quota._flush()
    clock.moment += timedelta(seconds=1)
    quota.count(of)
    quota.count(of)
    await quota._flush()
    quota.count(of)
    (calls, _) = await quota.months()
    assert calls.used == 4
    assert calls.expected == 8
    assert calls.days == {"2026-11-16": 3}


async def test_a_clock_that_goes_back_over_midnight_takes_nothing_back(
    redis: Redis, clock: Clock, process: Process
) -> None:
    quota, midnight = process("1000"), datetime(2026, 11, 15, 16, tzinfo=UTC)
    (of,) = quota._settings.organisations
    for minutes, calls in ((-2, 3), (1, 1), (-1, 2), (2, 1)):
        clock.moment = midnight + timedelta(minutes=minutes)
        for _ in range(calls):
            quota.count(of)
        await quota._flush()
    calls, _ = await quota.months()
    assert (calls.used, calls.days) == (7, {"2026-11-15": 5, "2026-11-16": 2})


async def test_a_report_whose_answer_is_lost_counts_once(
    redis: Redis, clock: Clock, valkey_server: Any
) -> None:
    with BlackHole(valkey_server.port) as proxy:
        through = Redis(port=proxy.port, socket_timeout=0.5)
        quota = Quota(through, Settings.load(env="sandbox"), now=clock.now)
        quota.count("acme")
        await quota._flush()
        quota.count("acme")
        proxy.keep_answers()
        with pytest.raises(RedisError):
            await quota._flush()
        assert await redis.hget(KEY, "calls") == b"2"
        proxy.mute = False
        quota.count("acme")
        await quota.close()
        await through.aclose()
    assert await redis.hget(KEY, "calls") == b"3"
    assert await redis.hget(KEY, "calls:2026-11-30") == b"3"


async def test_what_a_failover_took_back_is_counted_with_the_next_call(
    redis: Redis, process: Process
) -> None:
    quota = process("standard")
    quota.count("acme")
    await quota._flush()
    kept = {key: await redis.dump(key) for key in await redis.keys("dingrelay:quota*")}
    quota.count("acme")
    await quota._flush()
    for key, value in kept.items():
        await redis.restore(key, 1_000_000, value, replace=True)
    assert await redis.hget(KEY, "calls") == b"1"
    quota.count("acme")
    await quota._flush()
    assert await redis.hget(KEY, "calls") == b"3"


async def test_calls_of_two_days_that_are_reported_late_belong_to_their_days(
    redis: Redis, clock: Clock, process: Process
) -> None:
    quota = process("standard")
    clock.moment = NOVEMBER - timedelta(days=1)
    quota.count("acme")
    await quota._flush()
    clock.moment = NOVEMBER
    quota.count("acme")
    await quota._flush()
    assert await redis.hgetall(KEY) == {
        b"calls": b"2",
        b"calls:2026-11-29": b"1",
        b"calls:2026-11-30": b"1",
    }
    assert await redis.pttl(keys.quota_reports("acme", "2026-11-30")) > 86_400_000
