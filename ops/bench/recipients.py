"""5,000 recipients a minute: over it DingTalk answers success and delivers nothing."""

import time

import watch
from figures import Figure
from messages import full
from testbed import Testbed

GROUP = "5,000 recipients a minute"
A_MINUTE, A_CALL = 5_000, 100


def measure(testbed: Testbed, minutes: float = 3) -> list[Figure]:
    """The share of the recipients' limit that arrived in inboxes, and who got nothing.

    Args:
        testbed: where to measure.
        minutes: how long, under more jobs to 100 users each than the limit lets through.
    """
    testbed.clear()
    with testbed.workers(2, env=testbed.rules(calls="20/1s", recipients="5000/60s")):
        with testbed.client() as client:
            client.send_many(full(int((minutes + 1) * A_MINUTE / A_CALL), A_CALL))
        watch.wait(testbed, minutes * 60)
        seen = watch.seen(testbed, minutes * 60)
        # What was under way is in the inboxes, too.
        time.sleep(0.1)
        dropped = sum(testbed.sandbox.audit()["dropped"].values())
    delivered = (seen.recipients - dropped) / (A_MINUTE * minutes) * 100
    note = f"{seen.recipients:,} people in {minutes:g} min"
    return [
        Figure(GROUP, "delivered", delivered, "%", at_least=96, note=note),
        Figure(GROUP, "dropped silently", dropped, "people", at_most=0),
    ]
