"""What is noted at the broker of messages that were handed out, and what comes back."""

from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection, Consumer, Message, Producer, Queue
from redis import Redis

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_workers.broker import Transport

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
    with Consumer(connection, [QUEUE], callbacks=[lambda _, message: taken.append(message)]):
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
def test_what_was_not_acknowledged_comes_first_again(
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
