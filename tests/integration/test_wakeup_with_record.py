"""The script that accepts a job wakes it, where the broker is the Redis that has the records."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from dingrelay_producers import Client
from dingrelay_producers.errors import IdempotencyConflict, ServiceUnavailable
from dingrelay_producers.publisher import WOKEN_HEADER, Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft, Enqueued, Wakeup
from dingrelay_producers.store.states import State
from support.jobs import message

QUEUE = "dingrelay.normal"


def accepted(settings: Settings, store: Redis, drafts: Sequence[Draft]) -> list[Enqueued]:
    """States of these jobs, with their wake-ups in the script, if possible."""
    publisher = Publisher(settings)
    jobs = [record.written(draft, publisher.envelope(draft)) for draft in drafts]
    calls = record.enqueue_all(jobs)
    answers = scripts.run_many(store, calls)
    publisher.close()
    return list(map(record.enqueued, drafts, record.each_answer(calls, answers)))


def test_it_equals_what_the_publisher_writes(settings: Settings, store: Redis) -> None:
    drafts = [record.draft(message(text=f'a "b" % {number}', sender="hr")) for number in range(120)]
    with store.pubsub() as events:
        events.psubscribe("*")
        events.get_message(timeout=5)
        answers = accepted(settings, store, drafts)
        assert all(answer.created and answer.wakeup is None for answer in answers)
        published = [read(event(events)) for _ in drafts]
        messages = waiting(store)
        woken = [int(store.hget(keys.job(draft.id), "woken") or 0) for draft in drafts]
        places: Any = store.zrange(keys.woken(QUEUE), 0, -1, withscores=True)
        assert dict(places) == {
            draft.id.encode(): at for draft, at in zip(drafts, woken, strict=True)
        }
        store.delete(QUEUE)
        publisher = Publisher(settings)
        publisher.publish(
            [
                Wakeup._make([*(getattr(draft, name) for name in Wakeup._fields[:-1]), at])
                for draft, at in zip(drafts, woken, strict=True)
            ]
        )
        publisher.close()
        assert published == [read(event(events)) for _ in drafts]
    assert messages == waiting(store)
    assert [each["headers"][WOKEN_HEADER] for each in messages] == woken


def waiting(store: Redis) -> list[Any]:
    """Content of the queue, oldest first."""
    messages: Any = store.lrange(QUEUE, 0, -1)
    return [read(each) for each in reversed(messages)]


def event(events: Any) -> bytes:
    found = events.get_message(timeout=5)
    assert found, "nothing was published"
    data: bytes = found["data"]
    return data


def read(text: bytes) -> Any:
    """A message or an event without what is another's each time."""
    envelope = json.loads(text)
    assert len(envelope["properties"].pop("delivery_tag")) == 16
    body = json.loads(envelope["body"])
    if isinstance(body, dict):
        assert body.pop("timestamp") > body.pop("clock") > 0
    return {**envelope, "body": body}


def test_a_job_that_is_enqueued_twice_is_woken_once(client: Client, store: Redis) -> None:
    client.send(message(idempotency_key="k"))
    client.send(message(idempotency_key="k"))
    keyed = (message(idempotency_key="other") for _ in range(3))
    assert client.send_many(keyed) == 3
    with pytest.raises(IdempotencyConflict):
        client.send_many([message(text="new"), message(text="changed", idempotency_key="k")])
    assert store.llen(QUEUE) == 3


def test_a_job_is_one_round_trip(client: Client, store: Redis) -> None:
    client.send(message())
    store.config_resetstat()
    client.send(message(text="again"))
    client.send_many(message(text=f"text {number}") for number in range(100))
    stats = store.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 3
    assert "cmdstat_ping" not in stats
    assert store.info("stats")["total_commands_processed"] <= 13 + 100 * 6 + 2 * 8


@pytest.mark.parametrize("name", ["localhost", "other database"])
def test_another_broker_is_published_to(valkey_url: str, store: Redis, name: str) -> None:
    url = valkey_url.removesuffix("/0")
    broker = f"{url}/3" if name == "other database" else url.replace("127.0.0.1", "localhost")
    settings = Settings.load(env="test", redis_url=valkey_url, broker_url=broker)
    draft = record.draft(message())
    (answer,) = accepted(settings, store, [draft])
    assert answer.wakeup
    assert answer.wakeup.at == int(store.hget(keys.job(draft.id), "woken") or 0)
    assert store.llen(QUEUE) == 0
    with Client(settings) as client, Redis.from_url(broker) as other:
        client.send(message(text="next"))
        assert other.llen(QUEUE) == 1


@pytest.mark.parametrize("jobs", [1, 120])
@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_refusals_leave_nothing(client: Client, store: Redis, trouble: str, jobs: int) -> None:
    client.send(message(text="known"))
    before = sorted(store.keys())
    try:
        if trouble == "full":
            store.config_set("maxmemory", 1)
        else:
            store.replicaof("127.0.0.1", 1)
        with pytest.raises(ServiceUnavailable, match=r"OutOfMemory|ReadOnly"):
            client.send_many(message(text=f"text {number}") for number in range(jobs))
    finally:
        store.config_set("maxmemory", 0)
        store.replicaof("NO", "ONE")
    assert sorted(store.keys()) == before
    assert store.llen(QUEUE) == store.zcard(keys.woken(QUEUE)) == 1


def test_a_user_who_may_not_write_to_the_queue_has_the_job_accepted(
    valkey_url: str, store: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    store.acl_setuser(
        "narrow",
        enabled=True,
        passwords=["+secret"],
        keys=["dingrelay:*"],
        categories=["+@all"],
    )
    try:
        url = valkey_url.replace("redis://", "redis://narrow:secret@")
        with Client(Settings.load(env="test", redis_url=url)) as client:
            with caplog.at_level(logging.WARNING, "dingrelay"):
                ref = client.send(message())
            assert ref.status().state == State.QUEUED
    finally:
        store.acl_deluser("narrow")
    assert "wake-ups not published, the scheduler will" in caplog.text
    assert store.llen(QUEUE) == 0
    assert store.zscore(keys.SCHEDULE, ref.id)


def test_without_the_lease_none_of_them_is_accepted(store: Redis) -> None:
    drafts = [record.draft(message(text=f"text {number}")) for number in range(3)]
    store.set("dingrelay:lease-of-a-test", "another", px=60_000)
    lease = ("dingrelay:lease-of-a-test", "me")
    calls = [record.enqueue(draft, fence=lease) for draft in drafts]
    assert scripts.run_many(store, calls) == [[b"fenced", 0]] * 3
    assert store.keys("dingrelay:job:*") == []


def test_large_jobs_do_not_share_a_call(settings: Settings, store: Redis) -> None:
    sizes = [10] * 60 + [40_000] * 5 + [300_000, 10, 10]
    drafts = [
        record.draft(message(text=str(number)))._replace(job={"text": "x" * size}, text="")
        for number, size in enumerate(sizes)
    ]
    calls = record.enqueue_all([record.written(draft) for draft in drafts])
    counts = [len(answer) // 2 for answer in scripts.run_many(store, calls)]
    assert counts == [50, 12, 2, 1, 1, 2]
    assert store.zcard(keys.RECENT) == len(sizes)
    error = RedisError("no")
    found = list(record.each_answer(calls, [error] * len(calls)))
    assert found == [error] * len(sizes)
