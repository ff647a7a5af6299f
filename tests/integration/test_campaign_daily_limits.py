"""What campaigns and other messages of a day know of each other, on a real Valkey."""

import json
from collections import Counter
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


class Limits:
    """The daily limits, with the store behind them: campaign → the people it has called."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.called: dict[str, set[str]] = {}
        self.coming: dict[str, dict[str, list[str]]] = {}
        self.queries: list[list[str]] = []
        self.moment = NOON
        self.daily_limits = DailyLimits(redis, self.reached, now=lambda: self.moment)

    async def reached(
        self,
        app: str,
        users: Sequence[str],
        campaigns: Sequence[str],
        content: str | None,
        since: object,
    ) -> Reach:
        self.queries.append(list(users))
        called = Counter(user for name in campaigns for user in self.called.get(name, set()))
        jobs = {job: some for name in campaigns for job, some in self.coming.get(name, {}).items()}
        coming = {job: [user for user in some if user in users] for job, some in jobs.items()}
        known = Counter({user: called[user] for user in users if called[user]})
        return Reach(known, coming)

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
def limits(redis: Redis) -> Limits:
    return Limits(redis)


async def test_a_campaign_leaves_out_who_has_the_content_and_reserves_nothing(
    limits: Limits, redis: Redis
) -> None:
    await limits.reserve("job", "u1")
    for _ in range(2):
        assert await limits.check("c", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])
    assert await redis.hlen(keys.received("a", DAY)) == 1
    assert await redis.hlen(keys.broadcasts("a", DAY)) == 1
    assert 0 < await redis.pttl(keys.broadcasts("a", DAY)) <= keys.DAY_TTL_MS


async def test_a_campaign_is_one_of_the_500_of_everybody_it_reached(
    limits: Limits, redis: Redis
) -> None:
    had = {"u1": DAILY_MESSAGES - 1, "u2": DAILY_MESSAGES, "u3": DAILY_MESSAGES - 1}
    await redis.hset(keys.received("a", DAY), mapping=had)
    await redis.expire(keys.received("a", DAY), 60)
    assert await limits.check("c", "u1", "u2") == DailyVerdict(["u1"], daily_cap=["u2"])
    assert not limits.queries, "nobody else has sent a campaign"
    limits.called["c"] = {"u1"}
    admitted = await limits.reserve("job", "u1", "u3", content="ho")
    assert admitted == DailyVerdict(["u3"], daily_cap=["u1"])
    assert limits.queries == [["u1", "u3"]], "both are asked about at once"
    checked = await limits.check("c2", "u1", "u3", "u4", content="he")
    assert checked == DailyVerdict(["u4"], daily_cap=["u1", "u3"])
    assert 0 < await redis.pttl(keys.near_cap("a", DAY)) <= keys.DAY_TTL_MS
    limits.moment += timedelta(days=1)
    assert await limits.reserve("job", "u1", content="ho") == DailyVerdict(["u1"])


async def test_nobody_far_from_the_cap_is_asked_about(limits: Limits, redis: Redis) -> None:
    campaigns = 20
    had = {"far": DAILY_MESSAGES - campaigns - 1, "near": DAILY_MESSAGES - campaigns}
    await redis.hset(keys.received("a", DAY), mapping=had)
    await redis.expire(keys.received("a", DAY), 60)
    for number in range(campaigns):
        await limits.check(f"c{number}", "somebody", content=f"c{number}")
    assert await limits.reserve("job", "far", "nobody", content="ho") == DailyVerdict(
        ["far", "nobody"]
    )
    assert not limits.queries
    assert await limits.reserve("job", "near", content="ho") == DailyVerdict(["near"])
    assert limits.queries == [["near"]]


async def test_a_campaign_that_calls_somebody_while_sql_is_asked_counts(
    limits: Limits, redis: Redis
) -> None:
    await one_below_the_cap(redis, "u1")
    await limits.check("c", "u2")

    async def called_then(*arguments: Any) -> Reach:
        reach = await limits.reached(*arguments)
        if len(limits.queries) == 1:
            # Of another campaign nobody has heard before.
            assert await one_of_two.check("c", "u1") == DailyVerdict(["u1"])
            limits.called["c"] = {"u1"}
        return reach

    one_of_two = Limits(redis)
    limits.daily_limits = DailyLimits(redis, called_then, now=lambda: limits.moment)
    assert await limits.reserve("job", "u1", content="ho") == DailyVerdict([], daily_cap=["u1"])
    assert len(limits.queries) == 2


async def test_people_who_are_called_again_and_again_are_checked_later(
    limits: Limits, redis: Redis
) -> None:
    await redis.hset(keys.received("a", DAY), "u1", DAILY_MESSAGES - 30)
    await redis.expire(keys.received("a", DAY), 60)
    for number in range(30):
        await limits.check(f"c{number}", "u2", content=f"c{number}")

    async def busy(*arguments: Any) -> Reach:
        await redis.hincrby(keys.near_cap("a", DAY), "u1", 1)
        return await limits.reached(*arguments)

    limits.daily_limits = DailyLimits(redis, busy, now=lambda: limits.moment)
    with pytest.raises(Wait):
        await limits.reserve("job", "u1", content="ho")
    assert await redis.hget(keys.received("a", DAY), "u1") == b"470", "nothing is reserved"


@pytest.mark.parametrize(
    ("record", "counts"),
    [
        ({"state": "queued"}, False),
        ({"state": "snoozed"}, False),
        ({"state": "snoozed", "intent": '{"step":"call"}'}, True),
        ({"state": "dead", "intent": '{"step":"call"}'}, True),
        ({"state": "retrying", "step:call": '{"call":{"task_id":1}}'}, True),
        ({"state": "done", "result": '{"call":{"task_id":1},"daily_cap":["u1"]}'}, False),
        ({"state": "done", "result": '{"call":{"task_id":1}}'}, True),
    ],
)
async def test_a_chunk_counts_once_it_may_have_called(
    limits: Limits, redis: Redis, record: dict[str, str], counts: bool
) -> None:
    await one_below_the_cap(redis, "u1")
    await limits.check("c", "u1")
    limits.coming["c"] = {"chunk": ["u1"]}
    await put_job(redis, "chunk", **record)
    expected = DailyVerdict([], daily_cap=["u1"]) if counts else DailyVerdict(["u1"])
    assert await limits.reserve("job", "u1", content="ho") == expected


async def test_near_the_cap_a_chunk_that_runs_is_waited_for(limits: Limits, redis: Redis) -> None:
    await one_below_the_cap(redis, "u1")
    await limits.check("c", "u1")
    limits.coming["c"] = {"chunk": ["u1"]}
    await put_job(redis, "chunk", state="running")
    with pytest.raises(Wait):
        await limits.reserve("job", "u1", content="ho")
    with pytest.raises(Wait):
        await limits.check("c2", "u1", content="he")
    await redis.hset(keys.job("chunk"), "state", "cancelled")
    assert await limits.reserve("job", "u1", content="ho") == DailyVerdict(["u1"])


async def test_a_message_of_a_campaigns_content_goes_to_people_that_it_has_not_called(
    limits: Limits,
) -> None:
    limits.called["c"] = {"u1"}
    await limits.check("c", "u1", "u2")
    for _ in range(2):
        admitted = await limits.reserve("job", "u1", "u2")
        assert admitted == DailyVerdict(["u2"], duplicate=["u1"])
    assert limits.queries == [["u1", "u2"], ["u1", "u2"]]
    # And the campaign finds out who has it by now.
    assert await limits.check("c", "u2") == DailyVerdict([], duplicate=["u2"])


async def test_a_chunk_that_is_settled_between_the_looks_at_sql_and_at_redis_counts(
    limits: Limits,
) -> None:
    await limits.check("c", "u1")
    limits.coming["c"] = {"chunk": ["u1"]}

    async def settled_then(*arguments: Any) -> Reach:
        reach = await limits.reached(*arguments)
        # The dispatcher commits its end and deletes its record.
        limits.coming, limits.called = {}, {"c": {"u1"}}
        return reach

    limits.daily_limits = DailyLimits(limits.redis, settled_then, now=lambda: limits.moment)
    assert await limits.reserve("job", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_a_chunk_that_is_not_enqueued_yet_is_waited_for_by_nobody(limits: Limits) -> None:
    await limits.check("c", "u1")
    limits.coming["c"] = {"chunk": ["u1"]}
    assert await limits.reserve("job", "u1") == DailyVerdict(["u1"])
    assert await limits.check("c", "u1") == DailyVerdict([], duplicate=["u1"])


async def test_two_campaigns_of_one_content_call_nobody_twice(limits: Limits) -> None:
    limits.called["c1"] = {"u1"}
    await limits.check("c1", "u1")
    assert await limits.check("c2", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_another_content_asks_the_store_nothing(limits: Limits) -> None:
    await limits.check("c", "u1")
    assert await limits.reserve("job", "u1", content="ho") == DailyVerdict(["u1"])
    await limits.check("d", "u2", content="for u2", uniform=False)
    assert await limits.reserve("job", "u2", content="for u3") == DailyVerdict(["u2"])
    assert not limits.queries


async def test_campaigns_with_fields_meet_others_by_what_each_person_gets(limits: Limits) -> None:
    limits.called["d"] = {"u1"}
    await limits.check("d", "u1", content="for u1", uniform=False)
    assert await limits.reserve("job", "u1", content="for u1") == DailyVerdict([], duplicate=["u1"])
    again = await limits.check("e", "u1", content="for u1", uniform=False)
    assert again == DailyVerdict([], duplicate=["u1"])
    assert await limits.check("f", "u1", content="for u1") == DailyVerdict([], duplicate=["u1"])


async def test_a_chunk_that_runs_is_waited_for(limits: Limits, redis: Redis) -> None:
    await limits.check("c", "u1")
    limits.coming["c"] = {"chunk": ["u1"]}
    await put_job(redis, "chunk", state="running")
    with pytest.raises(Wait):
        await limits.reserve("job", "u1", "u2")
    assert await redis.hlen(keys.received("a", DAY)) == 0, "whoever waits keeps nothing"
    await redis.hset(keys.job("chunk"), "state", "snoozed")
    assert await limits.reserve("job", "u1", "u2") == DailyVerdict(["u1", "u2"])


async def test_a_chunk_that_is_done_has_called_before_sql_says_so(
    limits: Limits, redis: Redis
) -> None:
    await limits.check("c", "u1", "u2")
    limits.coming["c"] = {"chunk": ["u1", "u2"]}
    result = {"call": {"task_id": 1}, "duplicate": [], "daily_cap": ["u2"]}
    await put_job(redis, "chunk", state="done", result=json.dumps(result))
    assert await limits.reserve("job", "u1", "u2") == DailyVerdict(["u2"], duplicate=["u1"])


async def test_a_chunk_takes_what_a_job_reserved_that_does_not_run(
    limits: Limits, redis: Redis
) -> None:
    await put_job(redis, "job", state="running")
    assert await limits.reserve("job", "u1") == DailyVerdict(["u1"])
    with pytest.raises(Wait):
        await limits.check("c", "u1")
    await redis.hset(keys.job("job"), "state", "snoozed")
    assert await limits.check("c", "u1") == DailyVerdict(["u1"])
    assert await redis.hlen(keys.received("a", DAY)) == 0
    limits.called["c"] = {"u1"}
    assert await limits.reserve("job", "u1") == DailyVerdict([], duplicate=["u1"])


async def one_below_the_cap(redis: Redis, user: str) -> None:
    await redis.hset(keys.received("a", DAY), user, DAILY_MESSAGES - 1)
    await redis.expire(keys.received("a", DAY), 60)


async def put_job(redis: Redis, job: str, **fields: str) -> None:
    await redis.hset(keys.job(job), mapping={**fields})
    await redis.expire(keys.job(job), 60)
