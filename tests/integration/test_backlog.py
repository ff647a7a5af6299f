"""Waiting jobs are counted, with the age of the oldest and an estimate of the end, for the command line and the
metrics."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers import Client, Settings
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys
from dingrelay_tasks.approval_follow import ApprovalFollow
from dingrelay_workers.backlog import estimate
from dingrelay_workers.backlog.estimate import BacklogGroup
from dingrelay_workers.backlog.shown import SENDERS, ShownBacklog
from dingrelay_workers.limiter import overview as limits
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.quota import Quota
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import SlotRequest, Turns
from dingrelay_workers.metrics import BACKLOG, OTHERS, UNNAMED, Series
from dingrelay_workers.resources import Resources
from support.command_line import Cli
from support.jobs import message

RULES = Rules.from_settings({}, "default")
QUEUES = ("dingrelay.urgent", "dingrelay.normal", "dingrelay.bulk")


@pytest.fixture(autouse=True)
def _nothing_shown() -> Iterator[None]:
    yield
    BACKLOG.series = {}


@pytest.fixture
async def served(redis: Redis) -> None:
    """All lanes have a worker."""
    for queue in QUEUES:
        await redis.set(keys.alive(queue), 1, px=60_000)


async def lanes(redis: Redis) -> dict[tuple[str, str], BacklogGroup]:
    _, found = await estimate.read(
        redis, await limits.read_pace(redis, Settings.load(env="sandbox"))
    )
    return {(each.app, each.lane): each for each in found}


async def normal(redis: Redis) -> BacklogGroup:
    return (await lanes(redis))["default", "normal"]


async def shown(redis: Redis, *apps: str) -> Series:
    """Metrics of a worker that has these apps."""
    settings = Settings.load(env="sandbox")
    return await ShownBacklog(redis, settings, Quota(redis, settings), apps=apps).current()


async def change(redis: Redis, job_id: str, **fields: Any) -> None:
    await redis.hset(keys.job(job_id), mapping=fields)


@pytest.mark.usefixtures("served")
async def test_jobs_are_counted_by_what_they_wait_for(client: Client, redis: Redis) -> None:
    jobs = [client.send(message(text=f"text {number}")).id for number in range(6)]
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    client.send(message(text="later", send_at=tomorrow))
    client.send(message(text="now", lane="urgent", sender="shop"))
    await change(redis, jobs[0], parked="x")
    states = ("snoozed", "snoozed", "retrying", "running", "done")
    for job_id, state in zip(jobs, states, strict=False):
        await change(redis, job_id, state=state)
    old = int((datetime.now(UTC) - timedelta(hours=2)).timestamp() * 1000)
    await change(redis, jobs[5], created=old)
    found = await lanes(redis)
    normal = found["default", "normal"]
    assert (normal.ready, normal.parked, normal.snoozed, normal.retrying) == (1, 1, 1, 1)
    assert (normal.running, normal.scheduled, normal.waiting) == (1, 1, 4)
    assert normal.since is not None
    assert abs((datetime.now(UTC) - normal.since).total_seconds() - 7_200) < 60
    assert found["default", "urgent"].waiting == 1
    groups = (await estimate.tally(redis)).groups
    assert {(each.lane, each.kind, each.sender) for each in groups} == {
        ("normal", "message-send", ""),
        ("urgent", "message-send", "shop"),
    }


@pytest.mark.usefixtures("served")
async def test_an_approval_that_people_have_not_decided_is_no_backlog(
    client: Client, redis: Redis
) -> None:
    job = client.send(ApprovalFollow(instance="i1"))
    await redis.set(keys.alive("dingrelay.events"), 1, px=60_000)
    assert (await normal(redis)).waiting == 1
    await change(redis, job.id, state="snoozed")
    jobs = await normal(redis)
    assert (jobs.waiting, jobs.scheduled, jobs.since) == (0, 1, None)
    await change(redis, job.id, state="retrying")
    assert (await normal(redis)).waiting == 1


@pytest.mark.usefixtures("served")
async def test_the_time_follows_the_limits_of_what_goes_first(client: Client, redis: Redis) -> None:
    client.send_many(message(text=f"bulk {number}", lane="bulk") for number in range(400))
    client.send_many(message(text=f"urgent {number}", lane="urgent") for number in range(100))
    found = await lanes(redis)
    assert found["default", "urgent"].drain_seconds == pytest.approx(100 / 20)
    assert found["default", "bulk"].drain_seconds == pytest.approx(500 / 20)


@pytest.mark.usefixtures("served")
async def test_jobs_that_share_calls_count_as_these(client: Client, redis: Redis) -> None:
    client.send_many(message(f"u{number}", text="same") for number in range(1_000))
    many = [f"p{number}" for number in range(250)]
    client.send(message(*many, text="one", lane="urgent", confirm=True))
    found = await lanes(redis)
    assert found["default", "normal"].calls == 10
    assert found["default", "urgent"].calls == 3
    # 1,250 people are more than the calls take: 5,000 a minute.
    seconds = 1_250 / (4_900 / 60.5)
    assert found["default", "normal"].drain_seconds == pytest.approx(seconds, rel=0.01)


async def test_a_lane_without_a_worker_has_no_end(client: Client, redis: Redis) -> None:
    client.send(message())
    found = await normal(redis)
    assert (found.drain_seconds, found.held_by) == (None, "worker")


@pytest.mark.usefixtures("served")
async def test_a_pause_counts(client: Client, redis: Redis) -> None:
    client.send(message())
    breakers = Breakers(redis, RULES)
    limiter = Limiter(redis, RULES, max_wait=5, local_waiters=4, breakers=breakers)
    await limiter.acquire(SlotRequest(Turns("default", "message.send", "normal"), 1))
    await limiter.throttled("default", "message.send", pause=60, everything=False, reason="90018")
    await limiter.close()
    paused = (await normal(redis)).drain_seconds
    assert paused is not None
    assert 55 < paused < 62


async def test_very_many_jobs_are_estimated_from_a_sample(
    client: Client, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "SLICE", 10)
    client.send_many(
        message(text=f"{number}", lane="bulk" if number % 4 else "normal") for number in range(400)
    )
    counted = await estimate.tally(redis, most=100)
    sizes = {each.lane: each.ready for each in counted.groups}
    assert not counted.exact
    assert sizes["bulk"] == pytest.approx(300, rel=0.1)
    assert sizes["normal"] == pytest.approx(100, rel=0.1)


@pytest.mark.usefixtures("served")
async def test_an_unreadable_record_is_not_counted(client: Client, redis: Redis) -> None:
    job_id = client.send(message()).id
    await redis.hdel(keys.job(job_id), "app")
    client.send(message(text="other"))
    await redis.zadd(keys.SCHEDULE, {"stranger": 1})
    await redis.pexpire(keys.SCHEDULE, 60_000)
    assert (await normal(redis)).waiting == 1


def test_the_command_shows_lanes_kinds_and_senders(cli: Cli, client: Client) -> None:
    assert "no job waits" in cli("queue").stderr
    client.send_many(
        message(text=f"{number}", lane="bulk", sender="crm") for number in range(1_200)
    )
    client.send(message(app="hr"))
    answer = cli.json("queue")
    assert answer["exact"]
    assert [(row["app"], row["lane"], row["waiting"]) for row in answer["lanes"]] == [
        ("default", "bulk", 1_200),
        ("hr", "normal", 1),
    ]
    assert answer["groups"][0]["kind"] == "message-send"
    shown = cli("queue").stdout
    assert "1,200" in shown
    assert "no worker" in shown
    assert "crm" in cli("queue", "--by", "sender").stdout
    assert "message-send" in cli("queue", "--by", "kind").stdout
    assert "default" not in cli("queue", "--app", "hr").stdout


async def test_every_worker_shows_the_metrics_and_one_counts(
    client: Client, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.resources.BACKLOG_EVERY", 0.01)
    client.send_many(message(text=f"{number}", lane="bulk") for number in range(3))
    settings = Settings.load(
        env="sandbox",
        redis_url=valkey_url,
        metrics_port=9464,
        quota={"edition": "standard"},
        apps={"default": {"app_key": "k", "agent_id": "1"}},
    )

    async with Resources(settings, Publisher(settings)) as one:
        await wait_until_async(lambda: BACKLOG.series)
        labels = {"app": "default", "lane": "bulk"}
        value = REGISTRY.get_sample_value
        assert value("dingrelay_backlog_jobs", {**labels, "state": "ready"}) == 3
        assert value("dingrelay_backlog_oldest_seconds", labels) is not None
        assert value("dingrelay_backlog_drain_seconds", labels) is None, "no worker serves it"
        quotas = {"used_calls": 0, "limit_calls": 5_000, "used_pushes": 0, "limit_pushes": 3_000}
        for name, expected in quotas.items():
            assert value(f"dingrelay_quota_{name}", {"organisation": "default"}) == expected
        counts = []
        monkeypatch.setattr("dingrelay_workers.backlog.shown.read", counts.append)
        other = ShownBacklog(one.redis, settings, one.quota, apps=["default"])
        assert [["default", "bulk", "ready"], 3] in (await other.current())["backlog_jobs"]
        assert not counts


async def test_metrics_name_configured_apps_and_few_senders(client: Client, redis: Redis) -> None:
    """A producer may write anything there."""
    client.send_many(
        [
            message(text="mine", sender="crm"),
            message(text="mine too"),
            *(message(text="x", app=f"app{number}", sender="spam") for number in range(60)),
            *(message(text=f"{number}", sender=f"s{number}") for number in range(30)),
        ]
    )
    waiting = await shown(redis, "default")
    ready = [(*place, jobs) for place, jobs in waiting["backlog_jobs"] if place[2] == "ready"]
    assert sorted(ready) == [
        (OTHERS, "normal", "ready", 60),
        ("default", "normal", "ready", 32),
    ]
    assert [["message-send"], 92] in waiting["backlog_kind_jobs"]
    named = {(app, sender): jobs for (app, sender), jobs in waiting["backlog_sender_jobs"]}
    assert named[OTHERS, "spam"] == 60
    assert len(named) == SENDERS + 1
    assert sum(named.values()) == 92
    assert (waiting["dead_jobs"], waiting["fleet_workers"]) == ([[[], 0]], [[[], 0]])


async def test_metrics_count_dead_jobs_and_nameless_senders(client: Client, redis: Redis) -> None:
    client.send(message())
    await redis.zadd(keys.DEAD, {"a": 1, "b": 2})
    await redis.pexpire(keys.DEAD, 60_000)
    BACKLOG.series = await shown(redis, "default")
    value = REGISTRY.get_sample_value
    assert value("dingrelay_dead_jobs") == 2
    labels = {"app": "default", "sender": UNNAMED}
    assert value("dingrelay_backlog_sender_jobs", labels) == 1
    assert value("dingrelay_backlog_kind_jobs", {"kind": "approval-create"}) == 0


async def test_the_limits_are_those_of_the_workers(
    cli: Cli, valkey_url: str, tmp_path: Path, redis: Redis
) -> None:
    def settings(calls: str) -> Settings:
        rules = {"message.send": {"calls": calls}}
        return Settings.load(env="sandbox", redis_url=valkey_url, rules=rules)

    async def read(*, workers: int) -> limits.FleetLimits:
        async def reported() -> bool:
            return (await limits.read(redis, local)).rules.workers == workers

        await wait_until_async(reported)
        return await limits.read(redis, local)

    local = Settings.load(env="sandbox", redis_url=valkey_url)
    slow, fast = settings("7/1s"), settings("9/1s")
    async with (
        Resources(slow, Publisher(slow), queues=["dingrelay.none"]) as one,
        Resources(slow, Publisher(slow), queues=["dingrelay.none"]),
    ):
        await one.limiter.acquire(SlotRequest(Turns("default", "message.send", "normal"), 1))
        shown = await read(workers=2)
        assert shown.rules.differences == []
        [calls] = [row for row in shown.buckets if row.unit == "calls" and row.api != "*"]
        assert calls.limit == 7
        async with Resources(fast, Publisher(fast), queues=["dingrelay.none"]) as other:
            [difference] = (await read(workers=3)).rules.differences
            assert (difference.api, difference.unit) == ("message.send", "calls")
            assert difference.limits["9/1s"] == [other.worker]
            assert len(difference.limits["7/1s"]) == 2
            page = await asyncio.to_thread(cli, "limits")
            assert "workers differ: message.send calls is" in page.stdout
