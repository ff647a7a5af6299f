"""What campaigns and other messages of a day know of each other, on a real Valkey."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.ownership import Ownership
from dingrelay_tasks.context import DailyVerdict
from dingrelay_tasks.outcomes import Wait
from dingrelay_workers.limiter.daily_limits import DAILY_MESSAGES, DailyLimits, Reach

NOON = datetime(2026, 11, 24, 4, tzinfo=UTC)
DAY = "2026-11-24"


def text(content: str) -> dict[str, Any]:
    return {"msgtype": "text", "text": {"content": content}}


class World:
    """The daily limits, with the store behind them: campaign → the people it has called."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.called: dict[str, set[str]] = {}
        self.coming: dict[str, dict[str, list[str]]] = {}
        self.asked: list[list[str]] = []
        self.moment = NOON
        self.daily_limits = DailyLimits(redis, self.reached, now=lambda: self.moment)

    async def reached(
        self, app: str, users: Sequence[str], campaigns: Sequence[str], content: str, since: object
    ) -> Reach:
        self.asked.append(list(users))
        called = {user for name in campaigns for user in self.called.get(name, set())}
        jobs = {job: some for name in campaigns for job, some in self.coming.get(name, {}).items()}
        coming = {job: [user for user in some if user in users] for job, some in jobs.items()}
        return Reach(called & set(users), coming)

    async def check(
        self, campaign: str, *users: str, content: str = "hi", uniform: bool = True
    ) -> DailyVerdict:
        verdict, _ = await self.daily_limits.check(
            "a", users, text(content), campaign=campaign, uniform=uniform
        )
        return verdict

    async def reserve(self, job: str, *users: str, content: str = "hi") -> DailyVerdict:
        """What a run of the job is told, which then sends, unless the job is in another state."""
        run = Ownership(job, "worker/1", 1)
        state = await self.redis.hget(keys.job(job), "state")
        held = {"state": "running", "owner": run.owner, "fence": run.fence}
        await self.redis.hset(keys.job(job), mapping=held)
        await self.redis.expire(keys.job(job), 60)
        try:
            verdict, _ = await self.daily_limits.reserve("a", run, users, text(content))
        finally:
            await self.redis.hset(keys.job(job), "state", state or "done")
        return verdict


@pytest.fixture
def world(redis: Redis) -> World:
    return World(redis)


async def test_a_campaign_leaves_out_who_has_the_content_and_reserves_nothing(
    world: World, redis: Redis
) -> None:
    await world.reserve("job", "u1")
    for _ in range(2):
        assert await world.check("c", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])
    assert await redis.hlen(keys.received("a", DAY)) == 1
    assert await redis.hlen(keys.broadcasts("a", DAY)) == 1
    assert 0 < await redis.pttl(keys.broadcasts("a", DAY)) <= keys.DAY_TTL_MS


async def test_a_campaign_is_one_of_everybodys_500(world: World, redis: Redis) -> None:
    await redis.hset(keys.received("a", DAY), mapping={"u1": DAILY_MESSAGES - 1, "u2": 500})
    await redis.expire(keys.received("a", DAY), 60)
    assert await world.check("c", "u1", "u2") == DailyVerdict(["u1"], daily_cap=["u2"])
    # Anybody may be in it, so the last message of the day is its.
    admitted = await world.reserve("job", "u1", content="ho")
    assert admitted == DailyVerdict([], daily_cap=["u1"])
    assert await world.check("c2", "u1", content="he") == DailyVerdict([], daily_cap=["u1"])
    world.moment += timedelta(days=1)
    assert await world.reserve("job", "u1", content="ho") == DailyVerdict(["u1"])


async def test_a_message_of_a_campaigns_content_goes_to_whom_that_has_not_called(
    world: World,
) -> None:
    world.called["c"] = {"u1"}
    await world.check("c", "u1", "u2")
    for _ in range(2):
        admitted = await world.reserve("job", "u1", "u2")
        assert admitted == DailyVerdict(["u2"], duplicate=["u1"])
    assert world.asked == [["u1", "u2"], ["u1", "u2"]]
    # And the campaign finds out who has it by now.
    assert await world.check("c", "u2") == DailyVerdict([], duplicate=["u2"])


async def test_a_chunk_that_is_settled_between_the_looks_at_sql_and_at_redis_counts(
    world: World,
) -> None:
    await world.check("c", "u1")
    world.coming["c"] = {"chunk": ["u1"]}

    async def settled_then(*asked: Any) -> Reach:
        reach = await world.reached(*asked)
        # The dispatcher commits its end and deletes its record.
        world.coming, world.called = {}, {"c": {"u1"}}
        return reach

    world.daily_limits = DailyLimits(world.redis, settled_then, now=lambda: world.moment)
    assert await world.reserve("job", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_a_chunk_that_is_not_enqueued_yet_is_waited_for_by_nobody(world: World) -> None:
    await world.check("c", "u1")
    world.coming["c"] = {"chunk": ["u1"]}
    assert await world.reserve("job", "u1") == DailyVerdict(["u1"])
    assert await world.check("c", "u1") == DailyVerdict([], duplicate=["u1"])


async def test_two_campaigns_of_one_content_call_nobody_twice(world: World) -> None:
    world.called["c1"] = {"u1"}
    await world.check("c1", "u1")
    assert await world.check("c2", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_another_content_asks_the_store_nothing(world: World) -> None:
    await world.check("c", "u1")
    assert await world.reserve("job", "u1", content="ho") == DailyVerdict(["u1"])
    await world.check("d", "u2", content="for u2", uniform=False)
    assert await world.reserve("job", "u2", content="for u3") == DailyVerdict(["u2"])
    assert not world.asked


async def test_campaigns_with_fields_meet_others_by_what_each_person_gets(world: World) -> None:
    world.called["d"] = {"u1"}
    await world.check("d", "u1", content="for u1", uniform=False)
    assert await world.reserve("job", "u1", content="for u1") == DailyVerdict([], duplicate=["u1"])
    again = await world.check("e", "u1", content="for u1", uniform=False)
    assert again == DailyVerdict([], duplicate=["u1"])
    assert await world.check("f", "u1", content="for u1") == DailyVerdict([], duplicate=["u1"])


async def test_a_chunk_that_runs_is_waited_for(world: World, redis: Redis) -> None:
    await world.check("c", "u1")
    world.coming["c"] = {"chunk": ["u1"]}
    await put_job(redis, "chunk", state="running")
    with pytest.raises(Wait):
        await world.reserve("job", "u1", "u2")
    assert await redis.hlen(keys.received("a", DAY)) == 0, "whoever waits keeps nothing"
    await redis.hset(keys.job("chunk"), "state", "snoozed")
    assert await world.reserve("job", "u1", "u2") == DailyVerdict(["u1", "u2"])


async def test_a_chunk_that_is_done_has_called_before_sql_says_so(
    world: World, redis: Redis
) -> None:
    await world.check("c", "u1", "u2")
    world.coming["c"] = {"chunk": ["u1", "u2"]}
    result = {"call": {"task_id": 1}, "duplicate": [], "daily_cap": ["u2"]}
    await put_job(redis, "chunk", state="done", result=json.dumps(result))
    assert await world.reserve("job", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_a_chunk_takes_what_a_job_reserved_that_does_not_run(
    world: World, redis: Redis
) -> None:
    await put_job(redis, "job", state="running")
    assert await world.reserve("job", "u1") == DailyVerdict(["u1"])
    with pytest.raises(Wait):
        await world.check("c", "u1")
    await redis.hset(keys.job("job"), "state", "snoozed")
    assert await world.check("c", "u1") == DailyVerdict(["u1"])
    assert await redis.hlen(keys.received("a", DAY)) == 0
    world.called["c"] = {"u1"}
    assert await world.reserve("job", "u1") == DailyVerdict([], duplicate=["u1"])


async def put_job(redis: Redis, job: str, **fields: str) -> None:
    await redis.hset(keys.job(job), mapping={**fields})
    await redis.expire(keys.job(job), 60)
