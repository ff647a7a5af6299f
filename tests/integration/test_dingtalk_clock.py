"""DingTalk's clock: one reading for the fleet, and what is counted by it where the clocks are apart."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import beijing
from dingrelay_tasks.message import digest
from dingrelay_workers.dingtalk import clock as clock_module
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.limiter.daily_limits import had_today
from dingrelay_workers.limiter.quota import Quota
from support.jobs import message
from support.workers import one_worker

DAY = 86_400.0


async def redis_time(redis: Redis) -> float:
    seconds, micros = await redis.time()
    return seconds + micros / 1e6


async def reading(redis: Redis, ahead: float, *, ago: float = 0.0) -> DingTalkClock:
    """The clock of a process that gets an answer, made so many seconds ago by a clock so far ahead of Redis's."""
    clock = DingTalkClock(redis)
    await observe(clock, redis, "oapi", ahead, ago=ago)
    return clock


async def observe(
    clock: DingTalkClock, redis: Redis, host: str, ahead: float, *, ago: float = 0.0
) -> None:
    """Let a process get such an answer from a host."""
    came = time.monotonic() - ago
    shown = datetime.fromtimestamp(await redis_time(redis) + ahead - ago, UTC)
    clock.observe(host, format_datetime(shown, usegmt=True), sent=came, came=came)


def is_about(ahead: int | None, seconds: float) -> bool:
    """Whether this is the offset; a ``Date`` shows whole seconds, and what is known is the least."""
    return ahead is not None and -1.5 <= ahead / 1000 - seconds <= 0.5


@pytest.mark.parametrize("ahead", [0.0, 40.0, -3_600.0, DAY])
async def test_a_process_without_an_answer_has_the_reading_of_the_fleet(
    redis: Redis, ahead: float
) -> None:
    other = DingTalkClock(redis)
    assert await other.ahead() is None
    assert is_about(await (await reading(redis, ahead)).ahead(), ahead)
    new = DingTalkClock(redis)
    assert is_about(await new.ahead(), ahead)
    there = (await new.now()).timestamp() - await redis_time(redis)
    assert -2 <= there - ahead <= 1


async def test_answers_of_all_processes_narrow_the_reading_down(redis: Redis) -> None:
    now = await redis_time(redis)
    for part in (0.0, 0.2, 0.4, 0.6, 0.8):
        clock, came = DingTalkClock(redis), time.monotonic()
        # Its answer was made at the very end of the second that it shows, or in its midst.
        shown = datetime.fromtimestamp(int(now) + 1_000, UTC)
        sent = came - (now + 1_000 - int(now + 1_000)) - part
        clock.observe("oapi", format_datetime(shown, usegmt=True), sent=sent, came=came)
        await clock.ahead()
    low, high = await redis.hmget(keys.DINGTALK_CLOCK, "low", "high")
    assert float(high or 0) - float(low or 0) <= 2_000


async def test_where_two_readings_contradict_the_newer_one_counts(redis: Redis) -> None:
    """A clock was set: by an hour here, and a worker still has an answer from before."""
    assert is_about(await (await reading(redis, 0)).ahead(), 0)
    assert is_about(await (await reading(redis, 3_600)).ahead(), 3_600)
    assert is_about(await (await reading(redis, 0, ago=30)).ahead(), 3_600)
    assert is_about(await DingTalkClock(redis).ahead(), 3_600)


@pytest.mark.parametrize(
    ("field", "value"),
    [("at", "1"), ("at", "99999999999999"), ("history", "that of another server")],
)
async def test_a_reading_of_another_time_or_server_is_none(
    redis: Redis, field: str, value: str
) -> None:
    await (await reading(redis, 40)).ahead()
    await redis.hset(keys.DINGTALK_CLOCK, field, value)
    assert await DingTalkClock(redis).ahead() is None
    assert is_about(await (await reading(redis, 80)).ahead(), 80)


async def test_a_reading_costs_few_round_trips_and_lives_ten_minutes(redis: Redis) -> None:
    clock = await reading(redis, 40)
    ahead = await clock.ahead()
    assert 0 < await redis.pttl(keys.DINGTALK_CLOCK) <= 600_000
    await redis.delete(keys.DINGTALK_CLOCK)
    assert await clock.ahead() == ahead
    assert await (await reading(redis, 40, ago=601)).ahead() is None
    assert not await redis.exists(keys.DINGTALK_CLOCK)


@pytest.mark.parametrize("later", [30.0, 39.0, 40.0, 41.0, 50.0])
async def test_a_process_shares_its_latest_reading_of_any_host(
    redis: Redis, monkeypatch: pytest.MonkeyPatch, later: float
) -> None:
    monkeypatch.setattr(clock_module, "EVERY", 0.0)
    clock = await reading(redis, 40, ago=20)
    await clock.ahead()
    await observe(clock, redis, "rest", later)
    await redis.delete(keys.DINGTALK_CLOCK)
    assert is_about(await clock.ahead(), later)
    assert is_about(await DingTalkClock(redis).ahead(), later)


async def test_what_redis_forgot_of_the_clock_a_process_shares_again(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DingTalk may be out, so that no other reading is to be had."""
    monkeypatch.setattr(clock_module, "EVERY", 0.0)
    clock = await reading(redis, 40, ago=20)
    await clock.ahead()
    await redis.hset(keys.DINGTALK_CLOCK, "history", "that of another server")
    assert is_about(await clock.ahead(), 40)
    assert is_about(await DingTalkClock(redis).ahead(), 40)


async def test_one_answer_without_a_time_is_no_reason_to_take_no_reading(redis: Redis) -> None:
    """A proxy's page, for instance: DingTalk's own answers show the time."""
    clock = DingTalkClock(redis)
    clock.observe("oapi", None, sent=1.0, came=1.0)
    assert clock.undated
    clock.observe("oapi", "Tue, 01 Dec 2026 13:00:00 GMT", sent=2.0, came=2.0)
    assert not clock.undated


@pytest.mark.parametrize("date", ["Fri, 31 Dec 9999 23:59:59 GMT", "x", "", "Tue, 01 Dec 0 GMT"])
async def test_a_date_that_is_none_is_no_reading(redis: Redis, date: str) -> None:
    clock, came = DingTalkClock(redis), time.monotonic()
    clock.observe("oapi", date, sent=came, came=came)
    assert clock.undated
    assert await clock.ahead() is None
    assert not await redis.exists(keys.DINGTALK_CLOCK)


async def to_midnight(redis: Redis) -> int:
    """Seconds from Redis's time to a minute of DingTalk's next day."""
    now = datetime.fromtimestamp(await redis_time(redis), UTC).astimezone(beijing.BEIJING)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return round((midnight - now).total_seconds()) + 60


async def test_no_copy_is_sent_where_dingtalk_is_in_another_day_than_redis(
    sandbox: SandboxAdmin, valkey_url: str, redis: Redis, tmp_path: Path
) -> None:
    """It drops a second copy in silence, and the job would be done."""
    sandbox.set_clock(await to_midnight(redis))
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    async with one_worker(sandbox, valkey_url, redis, folders[0]) as one:
        # It has had no answer when it reserves for the first one.
        assert await one.finish(await one.send(message(text="one"))) == State.DONE
        assert await one.finish(await one.send(message(text="one"))) == State.DUPLICATE
        async with one_worker(sandbox, valkey_url, redis, folders[1]) as two:
            assert await two.finish(await two.send(message(text="one"))) == State.DUPLICATE
            assert await two.finish(await two.send(message(text="two"))) == State.DONE
        assert await one.finish(await one.send(message(text="two"))) == State.DUPLICATE
    # The token is there, and no reading: one is taken before anything is reserved.
    await redis.delete(keys.DINGTALK_CLOCK)
    async with one_worker(sandbox, valkey_url, redis, folders[2]) as three:
        assert await three.finish(await three.send(message(text="two"))) == State.DUPLICATE
    assert await redis.exists(keys.DINGTALK_CLOCK)
    assert sandbox.dropped() == []
    assert len(sandbox.inbox("u1")["delivered"]) == 2


async def test_months_and_previews_are_of_dingtalks_day(redis: Redis) -> None:
    ahead = 40 * DAY
    await (await reading(redis, ahead)).ahead()
    there = datetime.fromtimestamp(await redis_time(redis) + ahead, UTC)
    quota = Quota(redis, Settings.load(env="sandbox"))
    quota.count("acme")
    await quota.close()
    assert await redis.hget(keys.quota("acme", beijing.month(there)), "calls") == b"1"
    assert await quota.used("acme") == 1
    had = keys.everyone("a", beijing.day(there))
    content = digest({"msgtype": "text"})
    await redis.hset(had, "job", content)
    await redis.expire(had, 60)
    assert await had_today(redis, "a", [("u1", content)]) == ({"u1"}, set())
