"""7: Redis stays small and forgets, workers' memory is flat, no secret is in any output."""

from collections.abc import Iterator
from typing import cast

from redis import Redis

from dingrelay_chaos.broker import OTHER_QUEUE
from dingrelay_chaos.dingtalk import APP_SECRET
from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.settling import QUEUES
from dingrelay_chaos.valkey import VALUES, records
from dingrelay_producers.store import keys

MOST_ELEMENTS = 2_000
"""More than a run asks for; a set that holds more grows with something else."""
MOST_RECENT = keys.RECENT_JOBS + MOST_ELEMENTS
"""Until they are trimmed, which is once a second, the newest jobs are more than they should be."""
COUNTED = frozenset({b"hash", b"zset", b"set", b"list"})
"""Kinds of keys."""
MEMORY_FACTOR = 2.0
MEMORY_LEAST = 300 * 1024 * 1024


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Remains of a run."""
    with evidence.system.valkey.connect() as redis:
        yield from _keys(redis)
        secrets = [APP_SECRET, *evidence.snapshot.tokens]
        yield from _secrets(evidence, redis, secrets)
        yield from _others(evidence, redis)
    for worker in evidence.system.workers:
        if len(worker.memory) > 10:
            first, last = worker.memory[5], worker.memory[-1]
            if last > max(MEMORY_LEAST, first * MEMORY_FACTOR):
                yield f"{worker.name} grew from {first} to {last} bytes", ""


def _others(evidence: Evidence, redis: Redis) -> Iterator[Finding]:
    """Messages of another Celery app are its own, and no message is taken for a text that is none."""
    if redis.exists(OTHER_QUEUE):
        yield "messages that another Celery app holds were put back", ""
    for tag, since in evidence.requests.held_elsewhere.items():
        lost = evidence.lost_between(since, float("inf"))
        if not redis.hexists("unacked", tag) and not lost:
            yield f"{tag}, which another Celery app holds, is gone", ""
    poison = {text[: keys.REFUSED_BYTES] for text in evidence.requests.poison}
    for entry in cast("list[bytes]", redis.lrange(keys.REFUSED, 0, -1)):
        if entry.split(b"\n", 1)[1] not in poison:
            yield f"a message was refused: {entry[:200]!r}", ""


def _keys(redis: Redis) -> Iterator[Finding]:
    for raw in redis.scan_iter("dingrelay:*"):
        key = raw.decode()
        # What the broker keeps of messages lives as long as these.
        if redis.ttl(key) == -1 and not key.startswith(keys.TAKEN):
            yield f"{key} has no TTL", ""
        kind = cast("bytes", redis.type(key))
        size = len(VALUES[kind](redis, raw)) if kind in COUNTED else 0
        if size > (MOST_RECENT if key == keys.RECENT else MOST_ELEMENTS):
            yield f"{key} holds {size} elements", ""
    for lane in QUEUES:
        if left := redis.llen(f"dingrelay.{lane}"):
            yield f"{left} messages are left in the queue {lane}", ""


def _secrets(evidence: Evidence, redis: Redis, secrets: list[str]) -> Iterator[Finding]:
    texts = {name: text for name, text in evidence.logs.items() if name != "valkey"}
    texts |= dict(records(redis))
    for name, text in texts.items():
        if any(secret in text for secret in secrets):
            yield f"a secret is in {name}", ""
