"""What is written to Redis directly is what Celery would have written."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.record import Wakeup

WAKEUPS = [
    Wakeup("3b0c", "message-send", "dingrelay.normal", "default", "normal", "to 2 users", 1_700),
    Wakeup("3b0d", "message-send", "dingrelay.normal", "default", "normal", 'a "b" \\ é 你', 1_701),
    Wakeup('odd "id" é', "user-sync", "dingrelay.directory", "hr", "bulk", "x", 1_702),
    Wakeup("3b0e", "message-send", "dingrelay.urgent", "hr", "urgent", "", 1_703),
]
PASSING = {"delivery_tag", "reply_to", "timestamp", "clock", "hostname", "pid", "origin"}
"""What differs from one process, or one message, to the next."""


def lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: lasting(inner) for name, inner in value.items() if name not in PASSING}
    return value


def read(message: bytes) -> Any:
    envelope = json.loads(message)
    assert len(envelope["properties"]["delivery_tag"]) >= 32
    envelope["body"] = json.loads(base64.b64decode(envelope["body"]))
    return lasting(envelope)


def by_celery(publisher: Publisher) -> Callable[[Callable[[Any], None]], None]:
    """A Redis confirms nothing."""

    def publish_all(publish: Callable[[Any], None]) -> None:
        with publisher._celery.producer_or_acquire() as producer:
            publish(producer)

    return publish_all


def published(settings: Settings, *, directly: bool) -> tuple[dict[str, list[Any]], list[Any]]:
    """What is in each queue, in order, and what was told, with its channel."""
    with Redis.from_url(settings.redis) as redis, redis.pubsub() as events:
        redis.flushall()
        events.psubscribe("*")
        events.get_message(timeout=5)
        publisher = Publisher(settings)
        if not directly:
            publisher._direct = None
            publisher._confirmed = by_celery(publisher)  # type: ignore[method-assign]
        assert publisher.publish(WAKEUPS) == len(WAKEUPS)
        publisher.close()
        queues = {
            name: [read(message) for message in redis.lrange(name, 0, -1)]
            for name in {wakeup.queue for wakeup in WAKEUPS}
        }
        told = []
        while len(told) < len(WAKEUPS) and (event := events.get_message(timeout=5)):
            told.append((event["channel"], read(event["data"])))
        return queues, told


@pytest.mark.parametrize("database", [0, 3])
def test_both_ways_write_the_same(valkey_url: str, database: int) -> None:
    url = valkey_url.removesuffix("/0") + f"/{database}"
    settings = Settings.load(env="sandbox", redis_url=url)
    by_celery, directly = (published(settings, directly=how) for how in (False, True))
    assert directly == by_celery
    assert len(directly[1]) == len(WAKEUPS)


def test_a_broker_that_is_away_costs_no_job(valkey_url: str) -> None:
    settings = Settings.load(
        env="sandbox", redis_url=valkey_url, broker_url="redis://127.0.0.1:1/0"
    )
    publisher = Publisher(settings)
    assert publisher.publish(WAKEUPS) == 0
    publisher.close()
