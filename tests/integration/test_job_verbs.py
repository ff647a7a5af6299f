"""Verbs of jobs: each has one body, which every door carries out."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dingrelay_producers import CannotResolve, Client, InvalidArgument
from dingrelay_producers.client.jobs import Jobs
from dingrelay_producers.client.verbs import Verb, verbs_of
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys as redis_keys
from dingrelay_producers.store import record
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.store.records import Records, Usage
from support.command_line import Cli, end
from support.databases import rows
from support.drop_in import RECALL, asking, token_of
from support.gateways import GatewayClient
from support.jobs import a_wakeup, claimed, enqueue, message, queued, running, state
from support.outages import approval

VERBS = verbs_of(Jobs)
HR = {"app": "hr", "lane": "urgent"}


@pytest.fixture
def grants() -> Sequence[Grant]:
    return [
        Grant(name="all", scopes=frozenset({"*"})),
        Grant(name="hr", scopes=frozenset({"jobs:write", "audit:read"}), apps=frozenset({"hr"})),
        Grant(name="other", scopes=frozenset({"jobs:write", "audit:read"}), apps=frozenset({"it"})),
        Grant(name="slow", scopes=frozenset({"jobs:write"}), lanes=frozenset({"bulk"})),
    ]


def test_a_change_is_in_the_audit_by_app_and_lane_from_every_door(
    gateway: GatewayClient,
    keys: dict[str, str],
    settings: Settings,
    client: Client,
    cli: Cli,
    store: Redis,
) -> None:
    ids = [client.send(message(text=str(number), **HR)).id for number in range(4)]
    for job_id in ids:
        end(store, job_id, "dead")
    first, second, third, fourth = ids
    assert client.requeue(first)
    assert cli("job", "requeue", second).exit_code == 0
    assert gateway.ask("POST", f"/v1/jobs/{third}/requeue", key=keys["hr"]).status == 200
    assert client.discard_all([fourth, "none", first]) == [fourth]

    found = rows(
        settings.database, "select door, action, object, app, lane from audit where kind = 'job'"
    )
    assert [tuple(row.values()) for row in found] == [
        ("python", "requeue", first, "hr", "urgent"),
        ("cli", "requeue", second, "hr", "urgent"),
        ("http", "requeue", third, "hr", "urgent"),
        ("python", "discard", fourth, "hr", "urgent"),
    ]
    for name, seen in (("hr", 4), ("other", 0)):
        page = gateway.ask("GET", "/v1/audit?kind=job", key=keys[name]).json
        assert len(page["changes"]) == seen


def test_the_door_of_dingtalks_own_urls_audits_as_the_gateway_does(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, client: Client, store: Redis
) -> None:
    """A recall there of what has not left is a cancellation."""
    key_id, secret = keys["all"].split(".")
    asks = asking(gateway.url)
    token = token_of(asks, key_id, secret)
    first, second = (client.send(message(text=text, sender="crm")).id for text in "ab")
    store.set(redis_keys.door_task(key_id, "7"), first, px=60_000)
    recall = {"agent_id": "1", "msg_task_id": 7}
    status, answer = asks("POST", RECALL, token=token, body=recall)
    assert (status, answer["errcode"]) == (200, 0)
    assert gateway.ask("POST", f"/v1/jobs/{second}/cancel", key=keys["all"]).status == 200
    found = rows(
        settings.database,
        "select actor, name, request <> '' as request, object from audit where kind = 'job' order by number",
    )
    expected = [(key_id, "all", True, job_id) for job_id in (first, second)]
    assert [(row["actor"], row["name"], bool(row["request"]), row["object"]) for row in found] == (
        expected
    )


def test_a_recall_that_no_worker_would_carry_out_is_refused(
    gateway: GatewayClient, keys: dict[str, str], settings: Settings, client: Client, store: Redis
) -> None:
    job_id = client.send(message(**HR)).id
    sent = {"calls": [{"task_id": 7, "recipients": 1}], "accepted": 1}
    store.hset(redis_keys.job(job_id), mapping={"state": "done", "result": json.dumps(sent)})
    store.hset(redis_keys.SERVED, "app:it", 1)
    store.pexpire(redis_keys.SERVED, 60_000)
    refused = gateway.ask("POST", f"/v1/jobs/{job_id}/recall", key=keys["hr"])
    assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "/app")
    with Client(settings) as another, pytest.raises(ContractError, match="no worker serves hr"):
        another.recall(job_id)
    assert rows(settings.database, "select action from audit where kind = 'job'") == []
    store.hset(redis_keys.SERVED, "app:hr", 1)
    with Client(settings) as another:
        assert another.status(another.recall(job_id).id).app == "hr"


def test_a_recall_takes_no_lane_that_its_key_may_not_take(
    gateway: GatewayClient, keys: dict[str, str], client: Client, store: Redis
) -> None:
    job_id = client.send(message(**HR)).id
    sent = {"calls": [{"task_id": 7, "recipients": 1}], "accepted": 1}
    store.hset(redis_keys.job(job_id), mapping={"state": "done", "result": json.dumps(sent)})
    recall = gateway.ask("POST", f"/v1/jobs/{job_id}/recall", key=keys["slow"]).json
    assert recall["lane"] == "bulk"
    # Who asks again has the same job, in whatever lane.
    again = gateway.ask("POST", f"/v1/jobs/{job_id}/recall", key=keys["all"]).json
    assert (again["id"], again["lane"]) == (recall["id"], "bulk")


def test_a_recall_counts_all_people_of_calls_whose_outcome_is_unknown(
    client: Client, store: Redis
) -> None:
    users = [f"u{number}" for number in range(1_200)]
    job_id = client.send(message(*users)).id
    sent = {"calls": [{"task_id": 7, "recipients": 100}], "accepted": 100}
    step = {"task_id": 7, "recipients": 100}
    fields = {"state": "unknown", "result": json.dumps(sent), "step:call:1": json.dumps(step)}
    store.hset(redis_keys.job(job_id), mapping=fields)
    recall = client.recall(job_id).id
    assert json.loads(store.hget(redis_keys.job(recall), "payload") or "")["unknown"] == 1_100


@pytest.mark.usefixtures("gateway")
def test_what_is_refused_or_done_already_is_not_in_the_audit(
    settings: Settings, client: Client, store: Redis
) -> None:
    job_id = client.send(message()).id
    with pytest.raises(ContractError):
        client.postpone(job_id, datetime.now(UTC) - timedelta(hours=1))
    approvals = [client.send(approval(number)).id for number in range(2)]
    for approval_id in approvals:
        end(store, approval_id, "unknown")
    assert client.resolve(approvals[0], instance="taken")
    with pytest.raises(CannotResolve, match="taken"):
        client.resolve(approvals[1], instance="taken")
    assert client.cancel(job_id)
    assert client.cancel(job_id)
    found = rows(settings.database, "select action, object from audit where kind = 'job'")
    assert [tuple(row.values()) for row in found] == [
        ("resolve", approvals[0]),
        ("cancel", job_id),
    ]


@pytest.mark.parametrize("by", [4711, "", "line\nbreak"])
def test_who_resolves_a_job_is_a_text(by: Any, client: Client, store: Redis) -> None:
    job_id = client.send(message()).id
    end(store, job_id, "unknown")
    if by == "":
        assert client.resolve(job_id, sent=True, by=by)
        return
    with pytest.raises(InvalidArgument, match="by"):
        client.resolve(job_id, sent=True, by=by)
    assert client.status(job_id).state == "unknown"


async def test_the_age_of_a_job_does_not_count_what_it_was_postponed_for(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    job, claim = await running(redis, records)
    await records.park(claim, State.SNOOZED, delay=60, usage=Usage())
    assert await redis.hexists(redis_keys.job(job.id), "started")
    assert await asyncio.to_thread(client.postpone, job.id, datetime.now(UTC) + timedelta(days=2))
    assert not await redis.hexists(redis_keys.job(job.id), "started")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_a_key_for_another_app_finds_no_job(
    verb: Verb, gateway: GatewayClient, keys: dict[str, str], client: Client
) -> None:
    job_id = client.send(message(**HR)).id
    path = verb.path.replace("{id}", job_id)
    body = {"postpone": {"until": "2100-01-01T00:00:00Z"}, "resolve": {"sent": True}}
    refused = gateway.ask("POST", path, body.get(verb.name), key=keys["other"])
    assert (refused.status, job_id in str(refused.json)) == (404, False)
    assert client.status(job_id).state == "queued"


async def test_a_postponed_job_runs_not_before_its_moment(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    job = await queued(redis)
    until = datetime.now(UTC) + timedelta(hours=2)
    assert await asyncio.to_thread(client.postpone, job.id, until)
    status = await asyncio.to_thread(client.status, job.id)
    assert (status.state, status.due_at) == (
        "queued",
        until.replace(microsecond=until.microsecond // 1000 * 1000),
    )
    # A wake-up that was under way finds it early.
    early = await records.claim(a_wakeup(job))
    assert early.verdict == "early"
    assert await redis.zscore(redis_keys.SCHEDULE, job.id) == int(until.timestamp() * 1000)
    assert await redis.zscore(redis_keys.woken(job.queue), job.id) is None
    # The life that follows keeps it.
    assert await asyncio.to_thread(client.cancel, job.id)
    assert await asyncio.to_thread(client.requeue, job.id)
    assert (await asyncio.to_thread(client.status, job.id)).due_at == status.due_at


async def test_a_job_is_postponed_to_no_time_that_is_over(
    redis: AsyncRedis, client: Client, gateway: GatewayClient, keys: dict[str, str]
) -> None:
    """A record lives for a month behind its due time: to postpone its job to last year would delete it."""
    job = await queued(redis)
    path, until = f"/v1/jobs/{job.id}/postpone", "2020-01-01T00:00:00Z"
    refused = gateway.ask("POST", path, {"until": until}, key=keys["all"])
    assert (refused.status, "is over" in str(refused.json)) == (422, True)
    with pytest.raises(ContractError, match="until: is over"):
        await asyncio.to_thread(client.postpone, job.id, datetime.fromisoformat(until))
    assert await state(redis, job) == "queued"
    # A sender may have set one, whose job waits for something else by now.
    old = int(datetime.fromisoformat(until).timestamp() * 1000)
    await redis.hset(redis_keys.job(job.id), mapping={"state": "snoozed", "not_before": old})
    await run_async(redis, record.wake(job.id))
    assert await state(redis, job) == "snoozed"


async def test_a_job_is_brought_forward_by_no_postponement(
    redis: AsyncRedis, client: Client
) -> None:
    sent_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    job = record.draft(message(send_at=sent_at.isoformat()))
    await enqueue(redis, job)
    earlier, later = (sent_at + timedelta(minutes=minutes) for minutes in (-1, 1))
    with pytest.raises(ContractError, match="until: must not be before the time"):
        await asyncio.to_thread(client.postpone, job.id, earlier)
    assert (await asyncio.to_thread(client.status, job.id)).due_at == sent_at
    for _ in range(2):
        assert await asyncio.to_thread(client.postpone, job.id, later)
    assert (await asyncio.to_thread(client.status, job.id)).due_at == later


@pytest.mark.parametrize("held", [False, True], ids=["backoff", "pause"])
async def test_what_a_job_waits_for_is_cut_short_by_no_postponement(
    redis: AsyncRedis, records: Records, client: Client, held: bool
) -> None:
    job = await queued(redis)
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    if held:
        await asyncio.to_thread(client.pause_lane, f"{job.app}:{job.lane}", until=ends)
        assert (await records.claim(a_wakeup(job))).verdict == "held"
    else:
        claim = await claimed(records, job)
        await records.park(claim, State.RETRYING, delay=7200, usage=Usage())
    due_at = (await asyncio.to_thread(client.status, job.id)).due_at
    assert due_at is not None
    with pytest.raises(ContractError, match="until: must not be before the time"):
        await asyncio.to_thread(client.postpone, job.id, due_at - timedelta(minutes=1))
    assert (await asyncio.to_thread(client.status, job.id)).due_at == due_at
    later = due_at + timedelta(minutes=1)
    assert await asyncio.to_thread(client.postpone, job.id, later)
    assert (await asyncio.to_thread(client.status, job.id)).due_at == later


async def test_what_does_not_wait_is_not_postponed(
    redis: AsyncRedis, records: Records, client: Client
) -> None:
    runs, _ = await running(redis, records)
    until = datetime.now(UTC) + timedelta(hours=2)
    assert not await asyncio.to_thread(client.postpone, runs.id, until)
    assert await state(redis, runs) == "running"
    expires = record.draft(message(text="b", expires_at=(until - timedelta(minutes=1)).isoformat()))
    await enqueue(redis, expires)
    with pytest.raises(ContractError, match="until: must be before the job expires"):
        await asyncio.to_thread(client.postpone, expires.id, until)
    assert await run_async(redis, record.postpone("none", until)) is None
    assert await claimed(records, expires)


def test_of_many_jobs_an_unreadable_one_is_left_out(client: Client, store: Redis) -> None:
    ids = [client.send(message(text=str(number))).id for number in range(3)]
    for job_id in ids:
        end(store, job_id, "dead")
    store.hset(redis_keys.job(ids[1]), "state", "of another release")
    assert client.discard_all(ids) == [ids[0], ids[2]]


def test_a_postponed_message_shares_no_call_before_its_moment(client: Client, store: Redis) -> None:
    first = client.send(message("u1")).id
    batch = store.hget(redis_keys.job(first), "batch_key")
    assert batch is not None
    assert store.zscore(batch, first) is not None
    assert client.postpone(first, datetime.now(UTC) + timedelta(hours=1))
    assert store.zscore(batch, first) is None
