"""A campaign under the limits: it ends when they let it, and not much later."""

import broadcast
from figures import Figure
from limit_used import CALLS, LIMIT
from testbed import Testbed

A_MINUTE = 60_000
"""Recipients that the limit lets through."""
LIMITS = {"calls": CALLS, "recipients": f"{A_MINUTE}/60s"}


def measure(testbed: Testbed, people: int) -> list[Figure]:
    """How long it takes, in the time that the limits alone would take.

    Args:
        testbed: where to measure.
        people: how many it goes to.
    """
    group = f"campaign to {people:,}, within the limits"
    testbed.clear(people=people, **LIMITS)
    created = broadcast.create(testbed, "broadcast", people)
    least = max(people / broadcast.A_CALL / LIMIT, people / A_MINUTE * 60)
    with testbed.workers(2, env=testbed.rules(**LIMITS)):
        broadcast.move(testbed, "start", created)
        campaign = broadcast.wait_done(testbed, created, least * 3 + 10)
    seconds = broadcast.lasted(campaign)
    note = f"{seconds:.1f} of {least:.1f} s"
    return [
        Figure(group, "time ÷ the limits' own", seconds / least, "×", at_most=1.05, note=note),
        Figure(group, "not exactly once", broadcast.wrong(testbed, people), "people", at_most=0),
    ]
