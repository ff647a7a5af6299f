"""A campaign under the limits: it ends when they let it, and not much later."""

import broadcast
from figures import Figure
from limit_used import CALLS, LIMIT
from testbed import Stand

A_MINUTE = 60_000
"""Recipients that the limit lets through."""
LIMITS = {"calls": CALLS, "recipients": f"{A_MINUTE}/60s"}


def measure(stand: Stand, people: int) -> list[Figure]:
    """How long it takes, in the time that the limits alone would take.

    Args:
        stand: where to measure.
        people: whom it goes to.
    """
    group = f"campaign to {people:,}, within the limits"
    stand.clear(people=people, **LIMITS)
    created = broadcast.create(stand, "broadcast", people)
    least = max(people / broadcast.A_CALL / LIMIT, people / A_MINUTE * 60)
    with stand.workers(2, env=stand.rules(**LIMITS)):
        broadcast.move(stand, "start", created)
        told = broadcast.wait_done(stand, created, least * 3 + 10)
    seconds = broadcast.lasted(told)
    note = f"{seconds:.1f} of {least:.1f} s"
    return [
        Figure(group, "time ÷ the limits' own", seconds / least, "×", at_most=1.05, note=note),
        Figure(group, "not exactly once", broadcast.wrong(stand, people), "people", at_most=0),
    ]
