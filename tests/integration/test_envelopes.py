"""Messages written to Redis directly equal those of Celery."""

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from celery.worker.request import Request
from redis import Redis

from dingrelay_producers import AsyncClient, Client
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.scripts import run
from dingrelay_workers.maintenance.scheduler import DueBatch, Schedule
from dingrelay_workers.store.connections import open_redis
from support.jobs import message

WAKEUPS = [
    Wakeup("3b0c", "message-send", "dingrelay.normal", "default", "normal", "to 2 users", 1_700),
    Wakeup("3b0d", "message-send", "dingrelay.normal", "default", "normal", 'a "b" \\ é 你', 1_701),
    Wakeup('odd "id" é', "user-sync", "dingrelay.directory", "hr", "bulk", "x", 1_702),
    Wakeup("3b0e", "message-send", "dingrelay.urgent", "hr", "urgent", "", 1_703),
]
PASSING = {"delivery_tag", "reply_to", "timestamp", "clock", "hostname", "pid", "origin"}
"""Fields that differ from one process, or one message, to the next."""
ASSUMED = {
    "headers": {
        **dict.fromkeys(["shadow", "eta", "expires", "group", "group_index", "parent_id"]),
        **dict.fromkeys(["ignore_result", "stamped_headers"]),
        "retries": 0,
        "replaced_task_nesting": 0,
        "timelimit": [None, None],
        "stamps": {},
        "argsrepr": "",
    },
    "properties": {"delivery_mode": 2, "priority": 0, "body_encoding": "base64"},
}
"""Fields that Celery writes, and a worker assumes where they are missing."""


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lasting(inner) for name, inner in value.items() if name not in PASSING}
    return value


def read(message: bytes) -> Any:
    """A message or an event; in a message, what may be left out is there."""
    envelope = json.loads(message)
    assert len(envelope["properties"]["delivery_tag"]) >= 16
    encoded = envelope["properties"].get("body_encoding")
    body = base64.b64decode(envelope["body"]) if encoded else envelope["body"]
    envelope["body"] = json.loads(body)
    if "id" not in envelope["headers"]:
        envelope["properties"].setdefault("body_encoding", "base64")
        return lasting(envelope)
    task_id, arguments = envelope["headers"]["id"], envelope["body"]
    envelope["body"] = [*arguments[:2], {name: at for name, at in arguments[2].items() if at}]
    for part, assumed in ASSUMED.items():
        envelope[part] = assumed | envelope[part]
    envelope["headers"].setdefault("root_id", task_id)
    # Of what Celery writes twice or for answers, nothing is read.
    for name in ("correlation_id", "argsrepr", "kwargsrepr"):
        envelope["properties"].pop(name, None)
    return lasting(envelope)


def by_celery(publisher: Publisher) -> Callable[[Callable[[Any], None]], None]:
    """A Redis confirms nothing."""

    def publish_all(publish: Callable[[Any], None]) -> None:
        with publisher._celery.producer_or_acquire() as producer:
            publish(producer)

    return publish_all


def publish(settings: Settings, *, directly: bool) -> None:
    """Publish all wake-ups, by Celery or directly."""
    publisher = Publisher(settings)
    if not directly:
        publisher._direct = None
        publisher._confirmed = by_celery(publisher)  # type: ignore[method-assign]
    assert not publisher.publish(WAKEUPS)
    publisher.close()


def published(settings: Settings, *, directly: bool) -> tuple[dict[str, list[Any]], list[Any]]:
    """The messages in each queue, in order, and the published events with their channel."""
    with Redis.from_url(settings.redis) as redis, redis.pubsub() as events:
        redis.flushall()
        events.psubscribe("*")
        events.get_message(timeout=5)
        publish(settings, directly=directly)
        queues = {
            name: [read(message) for message in redis.lrange(name, 0, -1)]
            for name in {wakeup.queue for wakeup in WAKEUPS}
        }
        received = []
        while len(received) < len(WAKEUPS) and (event := events.get_message(timeout=5)):
            received.append((event["channel"], read(event["data"])))
        return queues, received


@pytest.mark.parametrize("database", [0, 3])
def test_both_ways_write_the_same(valkey_url: str, database: int) -> None:
    url = valkey_url.removesuffix("/0") + f"/{database}"
    settings = Settings.load(env="sandbox", redis_url=url)
    by_celery, directly = (published(settings, directly=how) for how in (False, True))
    assert directly == by_celery
    assert len(directly[1]) == len(WAKEUPS)


def test_a_message_that_waits_is_small(settings: Settings, store: Redis) -> None:
    publisher = Publisher(settings)
    publisher.publish(WAKEUPS[:1])
    publisher.close()
    (waits,) = store.lrange(WAKEUPS[0].queue, 0, -1)
    assert len(waits) < 450


@pytest.mark.parametrize("directly", [True, False])
def test_celery_reads_the_same_of_both(settings: Settings, directly: bool) -> None:
    app = Celery(broker=settings.redis, set_as_current=False)
    task = app.task(name="dingrelay.message-send")(message_send)
    published(settings, directly=directly)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue("dingrelay.normal", no_ack=True).get(timeout=5)
    request = Request(message, app=app, task=task)
    wakeup = WAKEUPS[0]
    assert (request.id, request.name) == (wakeup.id, "dingrelay.message-send")
    assert (request.args, request.kwargs) == ([], {"job": {"app": "default", "lane": "normal"}})
    assert (request.argsrepr, request.kwargsrepr) == ("", wakeup.summary)
    assert (request.eta, request.expires, *request.time_limits) == (None,) * 4
    assert (request.errbacks, request.chord, request.group) == (None, None, None)
    assert request.delivery_info["routing_key"] == wakeup.queue
    # It was not acknowledged: kombu gives it back by these.
    assert message.properties["delivery_info"] == {"exchange": "", "routing_key": wakeup.queue}


@pytest.mark.parametrize("directly", [True, False])
def test_celery_reads_the_same_event_of_both(settings: Settings, directly: bool) -> None:
    app, found = Celery(broker=settings.redis, set_as_current=False), list[Any]()
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": found.append})
        with receiver.consumer_context() as (consuming, *_):
            with suppress(TimeoutError):
                consuming.drain_events(timeout=0.01)  # it subscribes
            publish(settings, directly=directly)
            while len(found) < len(WAKEUPS):
                consuming.drain_events(timeout=5)
    assert [(each["uuid"], each["kwargs"]) for each in found] == [
        (each.id, each.summary) for each in WAKEUPS
    ]


def message_send(job: object) -> None:
    """A task of this name."""


@pytest.fixture
def without_broker(valkey_url: str) -> Settings:
    return Settings.load(env="sandbox", redis_url=valkey_url, broker_url="redis://127.0.0.1:1/0")


def test_a_broker_that_is_away_leaves_the_wakeups(without_broker: Settings) -> None:
    publisher = Publisher(without_broker)
    assert publisher.publish(WAKEUPS) == WAKEUPS
    publisher.close()


JOBS = [message(text=f"{number}") for number in range(150)]
QUEUE = "dingrelay.normal"


def send_by_client(settings: Settings) -> None:
    with Client(settings) as client:
        client.send_many(JOBS)


def send_by_enqueuer(settings: Settings) -> None:
    async def send() -> None:
        async with AsyncClient(settings) as client:
            for job in JOBS:
                await client.send(job)

    asyncio.run(send())


@pytest.mark.parametrize("send", [send_by_client, send_by_enqueuer])
def test_jobs_that_the_broker_did_not_take_are_due_at_once(
    without_broker: Settings, store: Redis, send: Callable[[Settings], None]
) -> None:
    send(without_broker)
    assert store.zcard(keys.woken(QUEUE)) == 0
    assert store.zcard(keys.SCHEDULE) == len(JOBS)
    due = asyncio.run(take_due(without_broker))
    assert len(due.wakeups) == len(JOBS)


async def take_due(settings: Settings) -> DueBatch:
    """The wake-ups that the scheduler publishes at once."""
    async with open_redis(settings) as redis:
        return await Schedule(redis, settings).take_due("w", lease=5, most=2 * len(JOBS))


def test_a_job_that_was_woken_again_or_started_since_stays_as_it_is(
    settings: Settings, store: Redis
) -> None:
    with Client(settings) as client:
        again, started = (client.send(message(text=text)).id for text in ("again", "started"))
    store.hset(keys.job(again), "woken", 2)
    store.hset(keys.job(started), mapping={"state": "running", "woken": 1})
    wakeups = [WAKEUPS[0]._replace(id=job, at=1) for job in (again, started, "gone")]
    assert [run(store, call) for call in record.unpublished(wakeups)] == [0]
    assert store.zcard(keys.woken(QUEUE)) == 2
    assert store.zcard(keys.SCHEDULE) == 0
