import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_tasks.context import Admission
from dingrelay_tasks.message import digest
from dingrelay_tasks.outcomes import Refused
from dingrelay_workers.limiter.guards import Guards

EVENING = datetime(2026, 11, 24, 15, 59, tzinfo=UTC)
"""One minute before midnight in Beijing."""


def text(content: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


class Day:
    def __init__(self) -> None:
        self.moment = EVENING

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def day() -> Day:
    return Day()


async def nobody(users: Sequence[str], campaigns: Sequence[str]) -> set[str]:
    raise AssertionError((users, campaigns))


@pytest.fixture
def guards(redis: Redis, day: Day) -> Guards:
    return Guards(redis, nobody, now=day.now)


async def test_the_same_content_goes_to_a_user_once_a_day(guards: Guards, day: Day) -> None:
    assert await guards.admit("a", "job1", ["u1", "u2"], text("hi")) == Admission(["u1", "u2"])
    assert await guards.admit("a", "job2", ["u2", "u3"], text("hi")) == Admission(
        ["u3"], duplicate=["u2"]
    )
    assert await guards.admit("a", "job3", ["u2"], text("ho")) == Admission(["u2"])
    assert await guards.admit("b", "job4", ["u2"], text("hi")) == Admission(["u2"])
    day.moment += timedelta(minutes=2)
    assert await guards.admit("a", "job5", ["u2"], text("hi")) == Admission(["u2"])


async def test_the_same_job_is_admitted_again_and_counted_once(
    guards: Guards, redis: Redis
) -> None:
    for _ in range(3):
        assert await guards.admit("a", "job", ["u1"], text("hi")) == Admission(["u1"])
    assert await redis.hget(keys.received("a", "2026-11-24"), "u1") == b"1"


async def test_what_goes_to_everyone_is_part_of_each_users_500(
    guards: Guards, redis: Redis
) -> None:
    await redis.hset(keys.received("a", "2026-11-24"), mapping={"u1": 498, "u2": 497})
    for job in ("job1", "job2"):
        await guards.admit("a", job, [], text("all"), to_everyone=True)
    assert await guards.admit("a", "job3", ["u1", "u2"], text("hi")) == Admission(
        ["u2"], daily_cap=["u1"]
    )


async def test_a_user_gets_500_a_day(guards: Guards, redis: Redis) -> None:
    received = keys.received("a", "2026-11-24")
    await redis.hset(received, mapping={"u1": 500, "u2": 499})
    admission = await guards.admit("a", "job", ["u1", "u2"], text("hi"))
    assert admission == Admission(["u2"], daily_cap=["u1"])
    assert await redis.hget(received, "u2") == b"500"
    assert await guards.admit("a", "job", ["u2"], text("hi")) == Admission(["u2"])


async def test_what_was_not_sent_is_given_back(guards: Guards, redis: Redis) -> None:
    await guards.admit("a", "job1", ["u1", "u2"], text("hi"))
    await guards.release("a", "job2", ["u1"], text("hi"))
    assert (await guards.admit("a", "job2", ["u1"], text("hi"))).duplicate == ["u1"]
    for _ in range(2):
        await guards.release("a", "job1", ["u1"], text("hi"))
    assert await redis.hgetall(keys.received("a", "2026-11-24")) == {b"u2": b"1"}
    assert await guards.admit("a", "job2", ["u1"], text("hi")) == Admission(["u1"])


async def test_concurrent_jobs_never_share_a_user(guards: Guards) -> None:
    users = [f"u{number}" for number in range(1200)]
    admissions = await asyncio.gather(
        *(guards.admit("a", f"job{number}", users, text("hi")) for number in range(5))
    )
    admitted = [user for admission in admissions for user in admission.users]
    assert sorted(admitted) == sorted(users)


async def test_everyone_hears_three_times_a_day(guards: Guards, day: Day) -> None:
    for number in (1, 2, 3, 3, 1):
        await guards.admit("a", f"job{number}", [], text("hi"), to_everyone=True)
    with pytest.raises(Refused) as refused:
        await guards.admit("a", "job4", [], text("hi"), to_everyone=True)
    assert refused.value.code == "everyone_cap"
    await guards.admit("b", "job4", [], text("hi"), to_everyone=True)
    await guards.release("a", "job2", [], text("hi"), to_everyone=True)
    await guards.admit("a", "job4", [], text("hi"), to_everyone=True)
    day.moment += timedelta(minutes=2)
    await guards.admit("a", "job5", [], text("hi"), to_everyone=True)


async def test_keys_live_a_day_and_some_hours(guards: Guards, redis: Redis) -> None:
    await guards.admit("a", "job", ["u1"], text("hi"))
    await guards.admit("a", "job", [], text("hi"), to_everyone=True)
    names = [name async for name in redis.scan_iter("dingrelay:*")]
    assert len(names) == 3
    for name in names:
        assert 24 * 3_600_000 < await redis.pttl(name) <= 36 * 3_600_000


def test_content_is_the_same_whatever_the_order_of_its_fields() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": "你"}}) == digest({"b": {"d": "你", "c": 2}, "a": 1})
    assert digest(text("a")) != digest(text("b"))
    assert digest(text("\ud800"))
