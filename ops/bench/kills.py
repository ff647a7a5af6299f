"""Workers die by kill -9: while a campaign runs, whichever dispatchers among them, and while jobs do."""

import random
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from statistics import median

import psutil
from figures import Figure
from limit_used import CALLS, LIMIT, watch_for
from messages import distinct
from redis import Redis
from testbed import API, Testbed, wait_until, with_children

from dingrelay_producers.store import keys

WORKERS = 3
PAUSE = (1.5, 3.0)
"""Seconds between two kills, from and to."""
WINDOW = 25
"""Chunks that are under way at once at this pace."""
TIMEOUT = 60
LATENCY_MS = (200, 600)
"""So slow that every worker runs some jobs at any moment."""
REQUESTED = 3 / 4
"""Share of the limit that is requested. At all of it each kill adds to a queue that never empties, and what is
measured is how long a job stands in it."""


def campaign(testbed: Testbed, people: int = 100_000, *, kills: int = 20) -> list[Figure]:
    """People of a campaign who do not have the message once in the end, and calls that were repeated.

    Args:
        testbed: where to measure.
        people: how many it goes to.
        kills: how many.
    """
    group = f"campaign under {kills} kills"
    # Dead workers are noticed sooner than by default: so much waiting would show nothing more.
    env = testbed.clear(people=people, calls=CALLS, recipients="") | {"DINGRELAY_LEASE": "2"}
    dispatchers: set[object] = set()
    with (
        testbed.client() as client,
        testbed.workers(WORKERS, env=env) as workers,
        Redis.from_url(testbed.redis_url) as redis,
    ):
        created = client.campaign(
            name="broadcast",
            message={"msgtype": "text", "text": {"content": "broadcast for all"}},
            recipients=[f"u{1 + number}" for number in range(people)],
        ).create()
        created.start()
        watch_for(testbed, 1)
        for _ in range(kills):
            dispatchers.add(redis.get(keys.DISPATCHER))
            testbed.replace_worker(workers, random.randrange(WORKERS), env=env)
            time.sleep(random.uniform(*PAUSE))
        if created.status().state.ended:
            raise RuntimeError("the campaign was over before the last kill")
        wait_until(lambda: created.status().state.ended, TIMEOUT, pause=0.1)
        ended = created.status()
    taken = testbed.sandbox.audit()["calls"][API]["ok"]
    wrong = _wrong(testbed, people) + abs(people - ended.accepted)
    seconds = (ended.ended_at - ended.started_at).total_seconds()
    note = (
        f"{people:,} people in {seconds:.0f} s, the dispatcher in {len(dispatchers - {None})} hands"
    )
    return [
        Figure(group, "not exactly once", wrong, "people", at_most=0, note=note),
        Figure(group, "repeated", taken - ended.planned, "calls", at_most=kills * WINDOW),
    ]


def _wrong(testbed: Testbed, people: int) -> int:
    """People who do not have the one campaign once: without it, or with a second copy."""
    inboxes = testbed.sandbox.inboxes(limit=1)
    repeated = sum(content["repeated"] for content in inboxes["contents"])
    return people - inboxes["reached"] + repeated


def recovery(testbed: Testbed, kills: int = 20) -> list[Figure]:
    """Seconds from a kill until the last job of the dead worker runs elsewhere or has ended.

    Args:
        testbed: where to measure.
        kills: how many.
    """
    group = f"recovery from {kills} kills"
    env = testbed.clear(latency=LATENCY_MS, calls=CALLS, recipients="")
    seconds: list[float] = []
    jobs = 0
    with (
        testbed.workers(WORKERS, env=env) as workers,
        _requests(testbed),
        Redis.from_url(testbed.redis_url) as redis,
    ):
        for _ in range(kills):
            wait_until(lambda: all(_running(redis, _pids(each)) for each in workers), TIMEOUT)
            number = random.randrange(WORKERS)
            victim = _pids(workers[number])
            testbed.replace_worker(workers, number, env=env)
            began = time.monotonic()
            orphans = _running(redis, victim)
            jobs += len(orphans)
            wait_until(lambda orphans=orphans: _recovered(redis, orphans), TIMEOUT, pause=0.02)
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
    """The worker that runs the job; None if none does."""
    state, owner = redis.hmget(keys.job(job.decode()), "state", "owner")
    return owner if state == b"running" else None


def _recovered(redis: Redis, orphans: dict[bytes, bytes]) -> bool:
    return all(_owner(redis, job) != owner for job, owner in orphans.items())
