"""What campaigns and other messages of a day know of each other, on a real Valkey."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers import keys
from dingrelay_tasks.context import Admission
from dingrelay_workers.limiter.guards import DAILY_MESSAGES, Guards

NOON = datetime(2026, 11, 24, 4, tzinfo=UTC)
DAY = "2026-11-24"


def text(content: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


class World:
    """The guards, with the store behind them: campaign → whom it has called."""

    def __init__(self, redis: Redis) -> None:
        self.called: dict[str, set[str]] = {}
        self.asked: list[list[str]] = []
        self.moment = NOON
        self.guards = Guards(redis, self.reached, now=lambda: self.moment)

    async def reached(self, users: Sequence[str], campaigns: Sequence[str]) -> set[str]:
        self.asked.append(list(users))
        return {user for name in campaigns for user in self.called.get(name, set())} & set(users)

    async def screen(self, campaign: str, *users: str, content: str = "hi") -> Admission:
        return await self.guards.screen("a", users, text(content), campaign=campaign, uniform=True)


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


async def test_a_campaign_leaves_out_who_has_the_content_and_reserves_nothing(
    world: World, redis: Redis
) -> None:
    await world.guards.admit("a", "job", ["u1"], text("hi"))
    for _ in range(2):
        assert await world.screen("c", "u1", "u2") == Admission(["u2"], duplicate=["u1"])
    assert await redis.hlen(keys.received("a", DAY)) == 1
    assert await redis.hlen(keys.broadcasts("a", DAY)) == 1
    assert 0 < await redis.pttl(keys.broadcasts("a", DAY)) <= keys.DAY_TTL_MS


async def test_a_campaign_is_one_of_everybodys_500(world: World, redis: Redis) -> None:
    await redis.hset(keys.received("a", DAY), mapping={"u1": DAILY_MESSAGES - 1, "u2": 500})
    assert await world.screen("c", "u1", "u2") == Admission(["u1"], daily_cap=["u2"])
    # Anybody may be in it, so the last message of the day is its.
    admitted = await world.guards.admit("a", "job", ["u1"], text("ho"))
    assert admitted == Admission([], daily_cap=["u1"])
    assert await world.screen("c2", "u1", content="he") == Admission([], daily_cap=["u1"])
    world.moment += timedelta(days=1)
    assert await world.guards.admit("a", "job", ["u1"], text("ho")) == Admission(["u1"])


async def test_a_message_of_a_campaigns_content_goes_to_whom_that_has_not_called(
    world: World,
) -> None:
    world.called["c"] = {"u1"}
    await world.screen("c", "u1", "u2")
    for _ in range(2):
        admitted = await world.guards.admit("a", "job", ["u1", "u2"], text("hi"))
        assert admitted == Admission(["u2"], duplicate=["u1"])
    assert world.asked == [["u1", "u2"], ["u1"]]
    # And the campaign finds out who has it by now.
    assert await world.screen("c", "u2") == Admission([], duplicate=["u2"])


async def test_two_campaigns_of_one_content_call_nobody_twice(world: World) -> None:
    world.called["c1"] = {"u1"}
    await world.screen("c1", "u1")
    assert await world.screen("c2", "u1", "u2") == Admission(["u2"], duplicate=["u1"])


async def test_another_content_asks_the_store_nothing(world: World) -> None:
    await world.screen("c", "u1")
    assert await world.guards.admit("a", "job", ["u1"], text("ho")) == Admission(["u1"])
    await world.guards.screen("a", ["u2"], text("for u2"), campaign="d", uniform=False)
    assert await world.guards.admit("a", "job", ["u2"], text("for u2")) == Admission(["u2"])
    assert not world.asked
