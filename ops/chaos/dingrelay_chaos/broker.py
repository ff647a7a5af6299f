"""Operations on the broker behind the back of our clients: Flower's, a program with the wrong queue, another Celery app."""

import json
import time
from contextlib import suppress

from redis.exceptions import RedisError

from dingrelay_chaos.system import System

OTHER_QUEUE = "another-app"
"""Queue of another Celery app on the same database."""
POISON = (
    b"[" * 100_000,
    b'{"__type__": "decimal", "__value__": "x"}',
    b'{"__type__": "datetime", "__value__": 7}',
    b"\xff\xfe",
    b"null",
    b'{"properties": []}',
    b'{"properties": {}, "headers": {"compression": "bzip2"}, "body": "x"}',
    b'{"properties": {}, "headers": {"task": ["x"], "id": "1"}, "body": "[[], {}, {}]"}',
)
"""Texts that are no messages."""


def command_queue(system: System, step: int, verb: str, lane: str) -> None:
    """Let all workers take messages of a lane, or no longer, as an operator does with Flower."""
    # kombu raises what its transport does.
    with suppress(Exception):
        system.command_queue(verb, lane)


def publish_poison(system: System, step: int, text: bytes, lane: str) -> None:
    """Put a text into a queue that is no message, as a program does that has the wrong one."""
    system.requests.poison.add(text)
    with suppress(RedisError), system.valkey.connect() as redis:
        redis.lpush(f"dingrelay.{lane}", text)


def hold_elsewhere(system: System, step: int) -> None:
    """Let the worker of another Celery app on the same database hold a message for hours."""
    tag, message = f"other-{step}", {"body": "", "headers": {}, "properties": {}}
    with suppress(RedisError), system.valkey.connect() as redis:
        at = system.now()
        with redis.pipeline(transaction=True) as pipe:
            pipe.hset("unacked", tag, json.dumps([message, "", OTHER_QUEUE]))
            pipe.zadd("unacked_index", {tag: time.time() - 7_200})
            pipe.execute()
        system.requests.held_elsewhere[tag] = at
