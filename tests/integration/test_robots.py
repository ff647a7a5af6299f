"""Robots: one worker, a real Valkey and the sandbox's robots and groups."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers import State, current_apps
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.scripts import run_async
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ContractError, RobotMessage
from dingrelay_tasks.event import Event
from dingrelay_tasks.robot_names import ROBOTS, robot_digest
from dingrelay_tasks.robot_post import RobotPost
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.history.writer import Writer
from dingrelay_workers.jobs import outcome
from support.workers import OneWorker, OpenWorker

A, B = "token-of-robot-a", "token-of-robot-b"
SECRET = "SEC-of-robot-b"
GROUP = "cidSandboxGroup=="
PATH = "/robot/send"


def robot(sandbox: SandboxAdmin, token: str, secret: str = "") -> dict[str, str]:
    sandbox.add_robot(token, secret)
    return {"webhook": f"{sandbox.base_url}{PATH}?access_token={token}", "secret": secret}


@pytest.fixture
def worker_settings(sandbox: SandboxAdmin) -> dict[str, Any]:
    return {
        "history": {"days": 90},
        "robots": {
            "a": robot(sandbox, A),
            "b": robot(sandbox, B, SECRET),
            "bot": {"app": "default", "code": "sandbox-key"},
            **{
                name: {"webhook": f"{sandbox.base_url}{PATH}?access_token=token-of-{name}"}
                for name in ("gone", "lost")
            },
        },
        "groups": {
            "rest": {"robots": ["gone", "lost", "b"]},
            "none": {"robots": ["gone", "lost"]},
            "pool": {"robots": ["a", "b"]},
            "hr": {"robots": ["bot"], "conversation": GROUP},
        },
    }


def message(text: str = "disk full", **to: Any) -> RobotMessage:
    content = {"msgtype": "text", "text": {"content": text}}
    return RobotMessage.parse({"to": to, "message": content})


def post_elsewhere(sandbox: SandboxAdmin) -> None:
    """Post by the same webhook from another program."""
    request = Request(
        f"{sandbox.base_url}{PATH}?access_token={A}",
        b'{"msgtype": "text", "text": {"content": "x"}}',
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10) as answer:
        assert json.load(answer)["errcode"] == 0


async def done(worker: OneWorker, job: RobotMessage) -> str:
    """A message is sent, and its job is done: its id."""
    job_id = await worker.send(job)
    assert await worker.finish(job_id) == State.DONE
    return job_id


async def result(worker: OneWorker, job: str) -> dict[str, Any]:
    found = (await worker.status(job)).result
    assert found is not None
    return found


async def test_a_signed_webhook_is_posted_to(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    job = await done(worker, message(robot="b"))
    [post] = sandbox.robot_posts()
    assert (post["robot"], post["message"]["text"]) == (B, {"content": "disk full"})
    assert (await result(worker, job))["posts"][0]["robot"] == "b"


async def test_a_pool_shares_its_messages(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    jobs = [await worker.send(message(f"{number}", group="pool")) for number in range(2)]
    for job in jobs:
        assert await worker.finish(job) == State.DONE
    assert {post["robot"] for post in sandbox.robot_posts()} == {A, B}


@pytest.mark.parametrize("refusal", ["130101", "660026", "410100", "redirect", "punish"])
async def test_a_block_is_left_alone_and_the_pool_takes_over(
    worker: OneWorker, sandbox: SandboxAdmin, refusal: str
) -> None:
    sandbox.set_limits(robot_refusal=refusal, robot="3/60s")
    for _ in range(3):
        await asyncio.to_thread(post_elsewhere, sandbox)
    first = await worker.send(message("first", robot="a"))
    assert await worker.run(first) == State.SNOOZED
    called = len(sandbox.calls(api=PATH))
    for number in range(2):
        await done(worker, message(f"{number}", group="pool"))
    assert [post["robot"] for post in sandbox.robot_posts()] == [A, A, A, B, B]
    assert await worker.run(first) == State.SNOOZED
    assert len(sandbox.calls(api=PATH)) == called + 2


async def test_a_pool_does_without_robots_that_are_gone(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
    for number in range(3):
        await done(worker, message(f"{number}", group="rest"))
    assert [post["robot"] for post in sandbox.robot_posts()] == [B, B, B]
    assert len(sandbox.calls(api=PATH)) <= 5
    last = await worker.send(message("last", group="none"))
    assert await worker.finish(last) == State.DEAD


async def test_a_robot_of_an_app_writes_to_people(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.call("PUT", "robots/flow-controlled", ["u2"])  # type: ignore[arg-type]
    users = [f"u{number}" for number in range(1, 23)]
    job = await done(worker, message(robot="bot", users=[*users, "stranger"]))
    found = await result(worker, job)
    assert [len(post["users"]) for post in found["posts"]] == [20, 3]
    assert (found["invalid"], found["flow_controlled"]) == (["stranger"], ["u2"])
    await done(worker, message(group="hr"))
    assert sandbox.robot_posts()[-1]["group"] == GROUP


async def test_recipients_are_read_and_recalled(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    given = {**message(robot="bot", users=["u1", "no-one"]).wire(), "confirm": True}
    sent = await done(worker, RobotMessage.parse(given))
    found = await result(worker, sent)
    assert (found["delivered"], found["read"], found["invalid"]) == (["u1"], [], ["no-one"])
    details = await asyncio.to_thread(worker.client.details, sent)
    assert details.recipients == {"u1": "delivered", "no-one": "invalid"}
    group = await done(worker, message(group="hr"))
    for each in (sent, group):
        recall = await asyncio.to_thread(worker.client.recall, each)
        assert await worker.finish(recall.id) == State.DONE
        assert len((await result(worker, recall.id))["recalled"]) == 1
    webhook = await done(worker, message(robot="a"))
    with pytest.raises(ContractError):
        await asyncio.to_thread(worker.client.recall, webhook)


async def test_a_robot_has_a_limit_and_a_month_of_its_own(
    sandbox: SandboxAdmin, open_worker: OpenWorker
) -> None:
    robots = {"a": {**robot(sandbox, A), "calls": "600/60s", "month": 1}}
    async with open_worker(robots=robots) as worker:
        jobs = [await worker.send(message(text, robot="a")) for text in ("one", "two")]
        assert [await worker.finish(job) for job in jobs] == [State.DONE, State.DEAD]
        error = (await worker.status(jobs[1])).error
        assert (error.code, len(sandbox.robot_posts())) == ("quota", 1)
        resources = worker.executor.resources
        months = {each.counts: (each.used, each.limit) for each in await resources.quota.months()}
        assert months == {"calls": (0, None), "pushes": (1, None), "robot:a": (1, 1)}
        assert resources.rules.of("robots", resources.settings.robots["a"].rule)[0].limit == 600


async def test_messages_of_a_digest_are_one_post_and_then_gone(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    jobs: list[str] = []
    for text in ("cpu", "disk"):
        given = {**message(text, robot="a").wire(), "digest": "1s"}
        jobs.append(await worker.send(RobotMessage.parse(given)))
        assert await worker.run(jobs[-1]) == State.SNOOZED
    digest = await redis.hget(keys.digests("robot:a 1"), "open")
    assert await worker.finish(record.keyed_id("robots", "robot-digest", digest.decode())) == "done"
    assert not await redis.exists(keys.digest(digest.decode()))
    for job in jobs:
        assert await worker.finish(job) == State.DONE
    [post] = sandbox.robot_posts()
    assert post["message"]["markdown"]["title"] == "[2] disk"


async def joined(worker: OneWorker, redis: Redis, *texts: str) -> tuple[list[str], str]:
    """Messages that wait in one digest, and its job."""
    jobs: list[str] = []
    for text in texts:
        given = {**message(text, robot="a").wire(), "digest": "1s"}
        jobs.append(await worker.send(RobotMessage.parse(given)))
        assert await worker.run(jobs[-1]) == State.SNOOZED
    return jobs, await open_digest(redis)


async def open_digest(redis: Redis) -> str:
    name = await redis.hget(keys.digests("robot:a 1"), "open")
    return record.keyed_id("robots", "robot-digest", name.decode())


async def cancel(redis: Redis, job: str) -> None:
    await run_async(redis, record.cancel(job, record_ttl_ms=60_000, dead_ttl_ms=60_000))


async def test_what_is_not_wanted_any_more_leaves_its_digest(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    """Until that is closed: a message that was cancelled, or is to wait, is not posted with the others."""
    jobs, digest = await joined(worker, redis, "cancelled", "postponed", "wanted", "expired")
    cancelled, postponed, wanted, expired = jobs
    await cancel(redis, cancelled)
    until = datetime.now(UTC) + timedelta(days=4)
    assert await run_async(redis, record.postpone(postponed, until)) == b"snoozed"
    await redis.hset(keys.job(expired), "expires", 1)
    assert await worker.finish(digest) == State.DONE
    assert await worker.finish(wanted) == State.DONE
    [post] = sandbox.robot_posts()
    assert post["message"]["text"] == {"content": "wanted"}
    assert (await worker.status(cancelled)).state == State.CANCELLED
    due_at = (await worker.status(postponed)).due_at
    assert due_at is not None
    assert abs(due_at - until) < timedelta(seconds=1)
    # What is wanted again joins another one, though it has begun the first.
    await run_async(redis, record.requeue(cancelled))
    assert await worker.run(cancelled) == State.SNOOZED
    assert await worker.finish(await open_digest(redis)) == State.DONE
    assert await worker.finish(cancelled) == State.DONE
    assert [post["message"]["text"]["content"] for post in sandbox.robot_posts()] == [
        "wanted",
        "cancelled",
    ]


async def test_a_message_that_is_postponed_while_it_is_posted_is_posted_once(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    (job,), digest = await joined(worker, redis, "disk")
    name = await redis.hget(keys.digests("robot:a 1"), "open")
    await redis.hset(keys.digests("robot:a 1"), mapping={"busy": name, "since": 1})
    assert await run_async(redis, record.postpone(job, datetime.now(UTC) + timedelta(days=4)))
    assert await worker.finish(digest) == State.DONE
    # By that time the result of the digest would not be known any more.
    assert await worker.finish(job) == State.DONE
    assert len(sandbox.robot_posts()) == 1


async def test_a_digest_whose_robot_redis_forgot_is_posted_and_leaves_no_key_for_ever(
    worker: OneWorker, redis: Redis
) -> None:
    """`valkey_url` looks for keys without an end."""
    (job,), digest = await joined(worker, redis, "disk")
    await redis.delete(keys.digests("robot:a 1"))
    assert await worker.finish(digest) == State.DONE
    assert await worker.finish(job) == State.DONE
    assert await redis.pttl(keys.digests("robot:a 1")) > 0


async def test_a_digest_that_nobody_wants_is_not_posted(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    (job,), digest = await joined(worker, redis, "disk")
    await cancel(redis, job)
    assert await worker.finish(digest) == State.DONE
    assert sandbox.robot_posts() == []


async def takes_down_workers(redis: Redis, digest: str) -> None:
    intent = {"step": "post-000", "at": 1, "since": 1, "attempt": 1}
    crashes = {"crashes": outcome.MAX_CRASHES, "intent": json.dumps(intent), "called": 1}
    await redis.hset(keys.job(digest), mapping=crashes)


@pytest.mark.parametrize(
    ("end", "of_digest", "of_message"),
    [
        (cancel, State.CANCELLED, State.DEAD),
        (takes_down_workers, State.UNKNOWN, State.UNKNOWN),
    ],
    ids=["it is cancelled", "it takes down workers"],
)
async def test_the_messages_of_a_digest_end_with_it_however_it_ends(
    worker: OneWorker,
    sandbox: SandboxAdmin,
    redis: Redis,
    end: Callable[[Redis, str], Awaitable[None]],
    of_digest: State,
    of_message: State,
) -> None:
    (job,), digest = await joined(worker, redis, "disk")
    await end(redis, digest)
    assert await worker.finish(digest) == of_digest
    assert await worker.finish(job) == of_message
    # The next one does not wait for it, nor join it.
    (job,), digest = await joined(worker, redis, "net")
    assert await worker.finish(digest) == State.DONE
    assert await worker.finish(job) == State.DONE
    assert len(sandbox.robot_posts()) == 1


async def test_a_message_that_began_a_failed_digest_is_posted_once_it_is_requeued(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    (job,), _ = await joined(worker, redis, "disk")
    name = await redis.hget(keys.digests("robot:a 1"), "open")
    failed = json.dumps({"failed": "dead"})
    await redis.set(keys.digest_result(name.decode()), failed, px=60_000)
    await redis.hdel(keys.digests("robot:a 1"), "open")
    assert await worker.finish(job) == State.DEAD
    await run_async(redis, record.requeue(job))
    assert await worker.run(job) == State.SNOOZED
    assert await worker.finish(await open_digest(redis)) == State.DONE
    assert await worker.finish(job) == State.DONE
    assert len(sandbox.robot_posts()) == 1


async def test_readers_are_in_the_history_of_a_message(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis
) -> None:
    sandbox.set_limits(read_lag_seconds=600)
    given = {**message(group="hr").wire(), "confirm": True}
    job = await worker.send(RobotMessage.parse(given))
    assert await worker.run(job) == State.SNOOZED
    sandbox.set_limits(read_lag_seconds=0)
    sandbox.call("POST", "robots/read", {"app": "sandbox-key", "key": "group1", "user": "u3"})
    assert await worker.finish(job) == State.DONE
    found = await result(worker, job)
    assert (found["delivered"], found["read"]) == ([], ["u3"])

    async def receipt(kind: str, user: str) -> str:
        data = {"processQueryKey": "group1", "userId": user, "openConversationId": GROUP}
        event = Event(event_type=kind, event_id=f"{kind} {user}", data=data)
        sent = await worker.send(event)
        if await worker.run(sent) == State.SNOOZED:
            await write_history(worker)
        assert await worker.finish(sent) == State.DONE
        return str((await result(worker, sent))["follows"])

    async def outcomes() -> dict[str, str]:
        service = HistoryService(worker.executor.resources.settings)
        people = [(await service.person(user, app=None, limit=9))[0] for user in ("u3", "u4")]
        return {each.user: each.messages[0].outcome for each in people}

    assert await receipt("robot_msg_read", "u4") == "message"
    assert await outcomes() == {"u3": "read", "u4": "read"}
    assert await receipt("robot_msg_recall", "u9") == "message"
    assert await outcomes() == {"u3": "recalled", "u4": "recalled"}
    details = await asyncio.to_thread(worker.client.details, job)
    assert details.recipients == {"u3": "recalled", "u4": "recalled"}


async def write_history(worker: OneWorker) -> None:
    settings = worker.executor.resources.settings
    writer = Writer(worker.redis, worker.database, settings)
    await writer.tick()


@pytest.mark.parametrize(
    ("lost", "more"),
    [
        *((lost, {}) for lost in ("lost_answer", "reset_after", "reset_before")),
        ("html", {"effect": True}),
        ("html", {"effect": True, "status": 502}),
    ],
)
async def test_a_lost_answer_of_a_pool_makes_no_second_post(
    worker: OneWorker, sandbox: SandboxAdmin, lost: str, more: dict[str, Any]
) -> None:
    sandbox.add_fault(lost, api=PATH, count=1, **more)
    await done(worker, message(group="pool"))
    assert len(sandbox.robot_posts()) == 1


async def test_a_lost_reply_is_unknown_and_posted_once(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
    sandbox.call("POST", "robot-messages", {"app": "sandbox-key", "text": "?", "group": GROUP})
    sandbox.add_fault("lost_answer", api="/robot/sendBySession", count=1)
    session = robot_digest("session1")
    await worker.redis.set(keys.robot(session), "session1", px=60_000)
    body = {"msgtype": "text", "text": {"content": "all well"}}
    job = await worker.send(RobotPost.parse({"robot": session, "session": True, "body": body}))
    assert await worker.finish(job) == State.UNKNOWN
    assert [post["message"] for post in sandbox.robot_posts()] == [body]


async def test_a_lost_robot_answer_is_unknown(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("lost_answer", api="/v1.0/robot/oToMessages/batchSend", count=1)
    job = await worker.send(message(robot="bot", users=["u1"]))
    assert await worker.finish(job) == State.UNKNOWN
    assert len(sandbox.inbox("u1")["delivered"]) == 1


async def test_a_token_is_in_no_record_and_no_log(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.call("POST", "robots", {"token": B, "secret": "another"})
    for to in ({"robot": "a"}, {"robot": "b"}):
        await worker.finish(await worker.send(message(**to)))
    kept = [key async for key in redis.scan_iter()]
    kept += [await redis.hgetall(key) for key in kept if await redis.type(key) == b"hash"]
    written = str(kept) + caplog.text
    assert not any(secret in written for secret in (A, B, SECRET))


async def test_a_long_message_is_posted_in_pieces(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    lines = "\n".join(f"line {number} {'x' * 90}" for number in range(250))
    await done(worker, message(lines, robot="a"))
    pieces = [post["message"]["text"]["content"] for post in sandbox.robot_posts()]
    assert len(pieces) == 2
    assert "".join(pieces) == lines
    page = await asyncio.to_thread(sandbox._exchange, "GET", f"/_sandbox/groups/{GROUP}", None)
    assert b"line 249" in page[1]


async def test_a_robot_keeps_its_own_limit_with_a_new_webhook(
    open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(current_apps, "LOOK_EVERY", 0.05)
    webhook = "https://oapi.dingtalk.com/robot/send?access_token="
    file = tmp_path / "webhook"
    file.write_text(f"{webhook}the-old-token")
    monkeypatch.setenv("DINGTALK_ROBOT_OPS_WEBHOOK_FILE", str(file))
    async with open_worker(robots={"ops": {"calls": "7/60s"}}) as worker:
        resources = worker.executor.resources

        def limits() -> list[int | None]:
            ops = resources.apps.robots["ops"]
            return [rule.limit for rule in resources.rules.of(ROBOTS, ops.rule)][:1]

        old = resources.apps.robots["ops"].rule
        assert limits() == [7]
        file.write_text(f"{webhook}the-new-token")
        await wait_until_async(lambda: resources.apps.robots["ops"].rule != old)
        await wait_until_async(lambda: limits() == [7])
        assert [rule.limit for rule in resources.rules.of(ROBOTS, old)][:1] == [20]
