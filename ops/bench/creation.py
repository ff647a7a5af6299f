"""A campaign of a million people is made from a CSV file, and started."""

import broadcast
from figures import Figure
from limit_used import CALLS
from testbed import Testbed, wait_until

MEGABYTE = 1024**2
PATIENCE = 60


def measure(testbed: Testbed, people: int) -> list[Figure]:
    """The memory and the time that it takes, and how soon its first call arrives.

    Args:
        testbed: where to measure.
        people: rows of the file.
    """
    group = f"campaign to {people:,}"
    testbed.clear(calls=CALLS, recipients="")
    created = broadcast.create(testbed, "broadcast", people)
    with testbed.workers(2, env=testbed.rules(calls=CALLS, recipients="")):
        began = broadcast.move(testbed, "start", created)
        wait_until(testbed.calls, PATIENCE, pause=0.01)
        first = testbed.calls()[0]["monotonic"] - began
        broadcast.move(testbed, "cancel", created)
    return [
        Figure(group, "most memory", created.peak / MEGABYTE, "MB", at_most=120),
        Figure(
            group,
            "people stored a second",
            people / created.seconds,
            "/s",
            at_least=60_000,
            note=f"{created.seconds:.1f} s",
        ),
        Figure(group, "first call", first, "s", at_most=2, note="after the start command began"),
    ]
