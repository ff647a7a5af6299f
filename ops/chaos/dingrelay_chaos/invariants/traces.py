"""7: Redis stays small and forgets, workers' memory is flat, no secret is in any output."""

from collections.abc import Iterator

from redis import Redis

from dingrelay_chaos.dingtalk import APP_SECRET
from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.records import records
from dingrelay_chaos.system import System
from dingrelay_producers.store import keys

MOST_ELEMENTS = 2_000
"""More than a run asks for; a set that holds more grows with something else."""
MOST_RECENT = keys.RECENT_JOBS + MOST_ELEMENTS
"""Until they are trimmed, which is once a second, the newest jobs are more than they should be."""
MEMORY_FACTOR = 2.0
MEMORY_LEAST = 300 * 1024 * 1024
QUEUES = ("urgent", "normal", "events", "bulk", "directory", "webhooks")


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """What a run leaves behind."""
    with system.valkey.connect() as redis:
        yield from _keys(redis)
        secrets = [APP_SECRET, *evidence.snapshot.tokens]
        yield from _secrets(evidence, redis, secrets)
    for worker in system.workers:
        if len(worker.memory) > 10:
            first, last = worker.memory[5], worker.memory[-1]
            if last > max(MEMORY_LEAST, first * MEMORY_FACTOR):
                yield Violation(7, f"{worker.name} grew from {first} to {last} bytes")


def _keys(redis: Redis) -> Iterator[Violation]:
    for raw in redis.scan_iter("dingrelay:*"):
        key = raw.decode()
        if redis.ttl(key) == -1:
            yield Violation(7, f"{key} has no TTL")
        size = _size(redis, key)
        if size > (MOST_RECENT if key == keys.RECENT else MOST_ELEMENTS):
            yield Violation(7, f"{key} holds {size} elements")
    for lane in QUEUES:
        if left := redis.llen(f"dingrelay.{lane}"):
            yield Violation(7, f"{left} messages are left in the queue {lane}")


def _size(redis: Redis, key: str) -> int:
    match redis.type(key):
        case b"hash":
            return redis.hlen(key)
        case b"zset":
            return redis.zcard(key)
        case b"set":
            return redis.scard(key)
        case b"list":
            return redis.llen(key)
        case _:
            return 0


def _secrets(evidence: Evidence, redis: Redis, secrets: list[str]) -> Iterator[Violation]:
    texts = {name: text for name, text in evidence.logs.items() if name != "valkey"}
    texts |= dict(records(redis))
    for name, text in texts.items():
        if any(secret in text for secret in secrets):
            yield Violation(7, f"a secret is in {name}")
