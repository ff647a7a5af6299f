"""How soon another worker has the jobs of one that died by kill -9, with the default settings."""

import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

import psutil
from figures import Figure
from limit_used import CALLS, LIMIT
from messages import distinct
from redis import Redis
from testbed import Testbed, wait_until, with_children

from dingrelay_producers.store import keys

WORKERS = 3
LATENCY_MS = (200, 600)
"""So slow that every worker runs some jobs at any moment."""
PATIENCE = 60
REQUESTED = 3 / 4
"""Of the limit. At all of it each kill adds to a queue that never empties, and what is measured is how
long a job stands in it."""


def measure(testbed: Testbed, kills: int = 20) -> list[Figure]:
    """Seconds from a kill until the last job of the dead worker runs elsewhere or has ended.

    Args:
        testbed: where to measure.
        kills: how many.
    """
    group = f"recovery from {kills} kills"
    testbed.clear(latency=LATENCY_MS, calls=CALLS, recipients="")
    env = testbed.rules(calls=CALLS, recipients="")
    seconds: list[float] = []
    jobs = 0
    with (
        testbed.workers(WORKERS, env=env) as workers,
        _requests(testbed),
        Redis.from_url(testbed.redis_url) as redis,
    ):
        for _ in range(kills):
            wait_until(lambda: all(_running(redis, _pids(each)) for each in workers), PATIENCE)
            number = random.randrange(WORKERS)
            victim = _pids(workers[number])
            testbed.replace_worker(workers, number, env=env)
            began = time.monotonic()
            orphans = _running(redis, victim)
            jobs += len(orphans)
            wait_until(lambda orphans=orphans: _recovered(redis, orphans), PATIENCE, pause=0.02)
            seconds.append(time.monotonic() - began)
    return [
        Figure(group, "slowest", max(seconds), "s", at_most=12, note=f"{jobs} jobs"),
        Figure(group, "median", median(seconds), "s", at_most=12),
    ]


@contextmanager
def _requests(testbed: Testbed) -> Generator[None]:
    """Jobs are asked for at `REQUESTED` of the limit."""
    stopping = threading.Event()

    def ask() -> None:
        with testbed.client() as client:
            for job in distinct(1_000_000):
                client.send(job)
                if stopping.wait(1 / (REQUESTED * LIMIT)):
                    return

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        stopping.set()
        asking.join()


def _pids(process: psutil.Process) -> set[str]:
    return {str(each.pid) for each in with_children([process])}


def _running(redis: Redis, pids: set[str]) -> dict[bytes, bytes]:
    """The jobs that these processes run, each with its owner."""
    return {
        job: owner
        for job in redis.zrange(keys.RUNNING, 0, -1)
        if (owner := _owner(redis, job)) and owner.split(b":")[1].decode() in pids
    }


def _owner(redis: Redis, job: bytes) -> bytes | None:
    """Who runs the job; None if no worker does."""
    state, owner = redis.hmget(keys.job(job.decode()), "state", "owner")
    return owner if state == b"running" else None


def _recovered(redis: Redis, orphans: dict[bytes, bytes]) -> bool:
    return all(_owner(redis, job) != owner for job, owner in orphans.items())
