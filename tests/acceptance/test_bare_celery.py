"""A Celery client that knows the wire and nothing of ours, in any language."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet
from conftest import wait_until
from dingrelay_producers import Client, JobNotFound, JobStatus, State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin

Send = Callable[..., str]


@pytest.fixture
def send(valkey_url: str) -> Send:
    """Enqueue a message by the task's name; the Celery task id."""

    def send(
        content: str,
        user: str = "u1",
        *,
        expires: datetime | None = None,
        countdown: float | None = None,
        **fields: Any,
    ) -> str:
        text = {"msgtype": "text", "text": {"content": content}}
        job = {"to": {"users": [user]}, "message": text, **fields}
        return traffic.send_bare(valkey_url, [job], expires=expires, countdown=countdown)[0]

    return send


def known(client: Client, job_id: str) -> JobStatus | None:
    """The record's state; None before a worker has made it."""
    try:
        return client.status(job_id)
    except JobNotFound:
        return None


def ended(client: Client, job_id: str) -> JobStatus:
    """The status once a worker has made the record and the job has ended."""
    wait_until(lambda: known(client, job_id), what="a worker has made the record")
    return client.job(job_id).wait(20)


def iso(seconds: float) -> str:
    """A moment so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def contents(sandbox: SandboxAdmin, user: str) -> list[str]:
    return [entry["message"]["text"]["content"] for entry in sandbox.inbox(user)["delivered"]]


def test_jobs_of_a_bare_celery_client_are_carried_out(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, send: Send
) -> None:
    fleet.spawn(2, concurrency=4)

    plain = send("你好")
    expired = send("迟了", expires_at=iso(-1))
    expired_message = send("也迟了", expires=datetime.now(UTC) - timedelta(seconds=5))
    later = send("稍后", send_at=iso(3))
    cancelled = send("算了", send_at=iso(3))
    wrong = send("")
    wait_until(lambda: known(client, cancelled), what="a worker has made the record")
    assert client.cancel(cancelled)

    done = ended(client, plain)
    assert (done.state, done.attempts, done.kind) == (State.DONE, 1, "message-send")
    assert ended(client, expired).state == State.EXPIRED
    assert ended(client, expired_message).state == State.EXPIRED
    refused = ended(client, wrong)
    assert (refused.state, refused.error.code) == (State.DEAD, "message.text.content")

    duplicate = ended(client, send("你好"))
    assert duplicate.state == State.DUPLICATE
    assert (duplicate.result["duplicate"], duplicate.result["accepted"]) == (["u1"], 0)

    on_time = ended(client, later)
    assert on_time.state == State.DONE
    assert on_time.settled_at is not None
    waited = (on_time.settled_at - on_time.created_at).total_seconds()
    assert waited > 2, waited
    assert client.status(cancelled).state == State.CANCELLED
    assert contents(sandbox, "u1") == ["你好", "稍后"]


def test_a_celery_message_that_comes_twice_is_one_job(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey_url: str
) -> None:
    fleet.spawn(2, concurrency=4)
    text = {"msgtype": "text", "text": {"content": "一次"}}
    job = {"to": {"users": ["u1"]}, "message": text, "allow_duplicate": True}
    job_id = str(uuid.uuid4())
    sandbox.set_latency(50, 50)
    traffic.send_bare(valkey_url, [job] * 20, task_id=job_id)
    assert ended(client, job_id).state == State.DONE
    with Redis.from_url(valkey_url) as redis:
        wait_until(
            lambda: not redis.llen("dingrelay.normal") and not traffic.taken(redis),
            what="every message is dealt with",
        )
    assert len(sandbox.calls(api="/topapi/message")) == 1


def test_python_values_of_a_bare_celery_client_are_texts(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey_url: str
) -> None:
    text = {"msgtype": "text", "text": {"content": "几点"}}
    soon = datetime.now(UTC) + timedelta(seconds=1)
    message = {"to": {"users": ["u1"]}, "message": text}
    approval = {"process_code": "PROC-LEAVE", "originator": "u1"}

    def enqueue(kind: str, **job: Any) -> str:
        return traffic.send_bare(valkey_url, [job], kind)[0]

    fleet.spawn(concurrency=4)
    at = enqueue("message-send", **message, send_at=soon, idempotency_key=uuid.UUID(int=7))
    form = {"事由": "出差", "天数": Decimal("3.50")}
    decimal = enqueue("approval-create", **approval, form=form)
    number = enqueue("approval-create", **approval, form=form, department=Decimal(7))
    unwritable = enqueue("approval-create", **approval, form={"事由": b"\xff"})

    assert ended(client, at).state == State.DONE
    assert ended(client, decimal).state == State.DONE
    (made,) = sandbox.approvals()
    assert ["天数", "3.50"] in made["form"]
    for job_id, field in ((number, "department"), (unwritable, "form.事由")):
        refused = ended(client, job_id)
        assert (refused.state, refused.error.code) == (State.DEAD, field)
    assert len(contents(sandbox, "u1")) == 1


def test_a_countdown_waits_in_the_record_and_not_in_the_worker(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, send: Send, valkey_url: str
) -> None:
    soon = send("一会儿", countdown=4)
    later = send("以后", countdown=3_600)
    latest = send("更晚", countdown=3_600, send_at=iso(7_200))
    cancelled = send("算了", countdown=3_600)
    (worker,) = fleet.spawn(1, concurrency=2)
    waiting = (soon, later, latest, cancelled)
    wait_until(lambda: all(known(client, job) for job in waiting), what="each has its record")
    with Redis.from_url(valkey_url) as redis:
        wait_until(lambda: not traffic.taken(redis), what="each message is acknowledged")
        due = [int(redis.hget(keys.job(job), "due") or 0) for job in (later, latest)]
    assert 3_500_000 < due[1] - due[0] < 3_700_000
    # Two messages fill this worker, if it has them in its memory.
    assert ended(client, send("现在")).state == State.DONE
    assert client.cancel(cancelled)
    assert ended(client, soon).state == State.DONE
    assert contents(sandbox, "u1") == ["现在", "一会儿"]
    assert worker.alive


def test_another_celery_apps_tasks_run_once(
    fleet: Fleet, client: Client, send: Send, valkey_url: str
) -> None:
    """They are held for hours by an app with a visibility timeout of a day, on the same database."""
    held = json.dumps([{"body": "", "properties": {}}, "", "another-app"])
    with Redis.from_url(valkey_url) as redis:
        redis.hset("unacked", "theirs", held)
        redis.zadd("unacked_index", {"theirs": time.time() - 7_200})
        try:
            fleet.spawn(2, concurrency=2)
            assert ended(client, send("你好")).state == State.DONE
            assert redis.hget("unacked", "theirs") == held.encode()
            assert not redis.exists("another-app")
        finally:
            redis.delete("unacked", "unacked_index")


@pytest.fixture
def celery(valkey_url: str) -> Iterator[Celery]:
    """A Celery app that knows the broker and nothing of ours, as Flower's."""
    with Celery("bare", broker=valkey_url, set_as_current=False) as celery:
        yield celery


def texts(first: int, count: int) -> list[Any]:
    """Jobs of messages with texts of their own."""
    return [traffic.message(number).wire() for number in range(first, first + count)]


def test_a_worker_killed_just_after_a_queue_was_added_loses_none_of_its_messages(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, celery: Celery, valkey_url: str
) -> None:
    (killed,) = fleet.spawn(1, concurrency=20, queues=["dingrelay.normal"])
    sandbox.add_fault("latency", api=traffic.SEND, min_ms=3_000, max_ms=3_000)
    ids = traffic.send_bare(valkey_url, texts(0, 40), queue="dingrelay.bulk")
    celery.control.add_consumer("dingrelay.bulk")
    with Redis.from_url(valkey_url) as redis:
        wait_until(lambda: traffic.taken(redis) == 20, what="it holds some", pause=0.01)
        killed.kill()
        sandbox.clear_faults()
        for place in redis.zrange(keys.TAKEN, 0, -1):
            redis.zadd(keys.TAKEN, {place: 1}, xx=True)
    fleet.spawn(1, queues=["dingrelay.bulk"])
    for job in ids:
        assert ended(client, job).state == State.DONE
    traffic.assert_each_arrived_once(sandbox, range(40))


def test_what_a_cancelled_queue_has_left_goes_to_others_at_once(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, celery: Celery, valkey_url: str
) -> None:
    fleet.spawn(2, concurrency=8, queues=["dingrelay.bulk"])
    ids: list[str] = []
    with ExitStack() as stack, Redis.from_url(valkey_url) as redis:
        stack.callback(celery.control.add_consumer, "dingrelay.bulk")
        for turn in range(6):
            ids += traffic.send_bare(valkey_url, texts(40 * turn, 20), queue="dingrelay.bulk")
            celery.control.cancel_consumer("dingrelay.bulk")
            ids += traffic.send_bare(valkey_url, texts(40 * turn + 20, 20), queue="dingrelay.bulk")
            celery.control.add_consumer("dingrelay.bulk")
        celery.control.cancel_consumer("dingrelay.bulk", reply=True, timeout=5)
        wait_until(lambda: not traffic.taken(redis), what="they hold none of it")
    fleet.spawn(1, concurrency=8, queues=["dingrelay.bulk"])
    for job in ids:
        assert ended(client, job).state == State.DONE
    traffic.assert_each_arrived_once(sandbox, range(240))
