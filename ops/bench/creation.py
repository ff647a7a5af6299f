"""A campaign of a million people is made from a CSV file, and started."""

import broadcast
from figures import Figure
from limit_used import CALLS
from testbed import Stand, wait_until

MEGABYTE = 1024**2
PATIENCE = 60


def measure(stand: Stand, people: int) -> list[Figure]:
    """The memory and the time that it takes, and how soon its first call arrives.

    Args:
        stand: where to measure.
        people: rows of the file.
    """
    group = f"campaign to {people:,}"
    stand.clear(calls=CALLS, recipients="")
    created = broadcast.create(stand, "broadcast", people)
    with stand.workers(2, env=stand.rules(calls=CALLS, recipients="")):
        began = broadcast.move(stand, "start", created)
        wait_until(stand.calls, PATIENCE, pause=0.01)
        first = stand.calls()[0]["monotonic"] - began
        broadcast.move(stand, "cancel", created)
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
