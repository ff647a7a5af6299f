"""A campaign with the limits lifted: what the database, Redis and two workers carry."""

import broadcast
from figures import Figure
from redis import Redis
from testbed import Testbed, wait_until

MEGABYTE = 1024**2
PATIENCE = 60
SANDBOX = {"calls": "1000000/1s", "egress": "", "recipients": ""}
RULES = {"calls": "1000000/1s", "recipients": ""}


def measure(testbed: Testbed, people: int) -> list[Figure]:
    """People a second from the start to the last chunk in SQL, and Redis's memory over idle.

    Args:
        testbed: where to measure.
        people: how many it goes to.
    """
    group = f"campaign to {people:,}, limits lifted"
    testbed.clear(latency=(0, 0), people=people, **SANDBOX)
    created = broadcast.create(testbed, "broadcast", people)
    with testbed.workers(2, env=testbed.rules(**RULES)), Redis.from_url(testbed.redis_url) as redis:
        idle = most = _used(redis)
        broadcast.move(testbed, "start", created)

        def ended() -> bool:
            nonlocal most
            most = max(most, _used(redis))
            return broadcast.row(testbed, created)["state"] == "done"

        wait_until(ended, PATIENCE)
        campaign = broadcast.row(testbed, created)
    seconds = broadcast.lasted(campaign)
    note = f"{seconds:.1f} s, {campaign['calls']:,} calls"
    return [
        Figure(group, "people a second", people / seconds, "/s", at_least=25_000, note=note),
        Figure(group, "Redis over idle", (most - idle) / MEGABYTE, "MB", at_most=10),
        Figure(group, "not exactly once", broadcast.wrong(testbed, people), "people", at_most=0),
    ]


def _used(redis: Redis) -> int:
    return redis.info("memory")["used_memory"]
