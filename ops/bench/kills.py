"""Workers die by kill -9, whichever dispatchers among them, while a campaign runs."""

import random
import time

import broadcast
import watch
from figures import Figure
from limit_used import CALLS
from redis import Redis
from testbed import API, Testbed, wait_until

from dingrelay_producers.store import keys

WORKERS = 3
PAUSE = (1.5, 3.0)
"""Seconds between two kills, from and to."""
WINDOW = 25
"""Chunks that are under way at once at this pace."""
PATIENCE = 60


def measure(testbed: Testbed, people: int = 100_000, *, kills: int = 20) -> list[Figure]:
    """Who does not have it once in the end, and calls that were made again.

    Args:
        testbed: where to measure.
        people: how many it goes to.
        kills: how many.
    """
    group = f"campaign under {kills} kills"
    testbed.clear(people=people, calls=CALLS, recipients="")
    created = broadcast.create(testbed, people)
    # Dead workers are noticed sooner than by default: so much waiting would show nothing more.
    env = testbed.rules(calls=CALLS, recipients="")
    env |= {"DINGRELAY_LEASE": "2"}
    dispatchers: set[object] = set()
    with testbed.workers(WORKERS, env=env) as workers, Redis.from_url(testbed.redis_url) as redis:
        broadcast.start(testbed, created)
        watch.wait(testbed, 1)
        for _ in range(kills):
            dispatchers.add(redis.get(keys.DISPATCHER))
            testbed.replace_worker(workers, random.randrange(WORKERS), env=env)
            time.sleep(random.uniform(*PAUSE))
        if broadcast.row(testbed, created)["state"] == "done":
            raise RuntimeError("the campaign was over before the last kill")
        wait_until(lambda: broadcast.row(testbed, created)["state"] == "done", PATIENCE, pause=0.1)
    campaign = broadcast.row(testbed, created)
    taken = testbed.sandbox.audit()["calls"][API]["ok"]
    wrong = broadcast.wrong(testbed, people) + abs(people - campaign["accepted"])
    seconds = broadcast.lasted(campaign)
    note = (
        f"{people:,} people in {seconds:.0f} s, the dispatcher in {len(dispatchers - {None})} hands"
    )
    return [
        Figure(group, "not exactly once", wrong, "people", at_most=0, note=note),
        Figure(group, "repeated", taken - campaign["chunks"], "calls", at_most=kills * WINDOW),
    ]
