"""What is noted at the broker of messages that were handed out, and what comes back."""

from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from redis import Redis

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_workers.celery_worker.transport import Transport

QUEUE = Queue("q", routing_key="q")
OPTIONS = {"priority_steps": [0], "visibility_timeout": 3600}
WAKEUP = {WOKEN_HEADER: 1}


@pytest.fixture
def broker(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        redis.flushdb()
        yield redis
        redis.flushdb()


def connect(url: str) -> Connection:
    return Connection(url, transport=Transport, transport_options=OPTIONS)


def publish(connection: Connection, body: str, headers: dict[str, Any]) -> None:
    with Producer(connection.default_channel) as producer:
        producer.publish(body, routing_key="q", headers=headers, declare=[QUEUE])


def take(connection: Connection, count: int = 1) -> list[Message]:
    taken: list[Message] = []
    consumer = Consumer(
        connection,
        [QUEUE],
        callbacks=[lambda _, message: taken.append(message)],
        prefetch_count=count,
    )
    with consumer:
        while len(taken) < count:
            connection.drain_events(timeout=5)
    return taken


def test_a_wakeup_is_not_noted(broker: Redis, valkey_url: str) -> None:
    with connect(valkey_url) as connection:
        publish(connection, "wake", WAKEUP)
        (message,) = take(connection)
        assert not broker.exists("unacked", "unacked_index")
        message.ack()
    assert broker.llen("q") == 0


def test_the_message_of_another_client_is_noted_until_it_is_acknowledged(
    broker: Redis, valkey_url: str
) -> None:
    with connect(valkey_url) as connection:
        publish(connection, "job", {})
        (message,) = take(connection)
        assert broker.hlen("unacked") == 1
        message.ack()
        assert not broker.exists("unacked", "unacked_index")


@pytest.mark.parametrize("headers", [WAKEUP, {}], ids=["wake-up", "job"])
def test_unacknowledged_messages_come_first_again(
    broker: Redis, valkey_url: str, headers: dict[str, Any]
) -> None:
    with connect(valkey_url) as connection:
        publish(connection, "first", headers)
        publish(connection, "second", headers)
        (message,) = take(connection)
        assert message.payload == "first"
    assert broker.llen("q") == 2, "a channel that closes puts back what it holds"
    with connect(valkey_url) as connection:
        messages = take(connection, 2)
        assert [message.payload for message in messages] == ["first", "second"]
        for message in messages:
            message.ack()
    assert not broker.exists("q", "unacked")


@pytest.mark.parametrize("headers", [WAKEUP, {}, {"x": 1}], ids=["wake-up", "job", "other header"])
def test_a_rejected_message_is_gone_or_back(
    broker: Redis, valkey_url: str, headers: dict[str, Any]
) -> None:
    with connect(valkey_url) as connection:
        publish(connection, "it", headers)
        take(connection)[0].requeue()
        assert broker.llen("q") == 1
        take(connection)[0].reject()
        assert not broker.exists("q", "unacked", "unacked_index")


def test_waiting_messages_are_taken_together_and_in_order(broker: Redis, valkey_url: str) -> None:
    bodies = [str(number) for number in range(50)]
    with connect(valkey_url) as connection:
        for body in bodies:
            publish(connection, body, WAKEUP)
        pops = calls(broker, "brpop")
        messages = take(connection, len(bodies))
        assert [message.payload for message in messages] == bodies
        assert calls(broker, "brpop") - pops < len(bodies) / 5
        for message in messages:
            message.ack()


def test_no_more_is_taken_than_there_is_room_for(broker: Redis, valkey_url: str) -> None:
    with connect(valkey_url) as connection:
        for number in range(5):
            publish(connection, str(number), WAKEUP)
        messages = take(connection, 3)
        assert len(messages) == 3
        assert broker.llen("q") == 2
        for message in messages:
            message.ack()


@pytest.mark.parametrize("garbage", [b"no JSON", b"7", b"null", b"{}", b'{"body": 1}'])
def test_garbage_is_refused_and_what_is_around_it_is_not(
    broker: Redis, valkey_url: str, garbage: bytes
) -> None:
    with connect(valkey_url) as connection:
        publish(connection, "before", WAKEUP)
        broker.lpush("q", garbage, garbage)
        publish(connection, "after", WAKEUP)
        messages = take(connection, 2)
        assert [message.payload for message in messages] == ["before", "after"]
        for message in messages:
            message.ack()
    assert not broker.exists("q")


def calls(broker: Redis, command: str) -> int:
    return int(broker.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))
