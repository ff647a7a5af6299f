"""Campaigns are paused, and share the limit by weight."""

import time

import broadcast
import watch
from figures import Figure
from limit_used import CALLS, LIMIT
from testbed import Testbed

GROUP = "campaigns at 20 calls/s"
LEAD = 3
"""Seconds after the first call, by which both campaigns are in their stride."""
WEIGHT = 3


def measure(testbed: Testbed, seconds: float) -> list[Figure]:
    """How long calls go on after a pause, and how two campaigns of weights 3 and 1 share.

    Args:
        testbed: where to measure.
        seconds: how long the sharing is watched.
    """
    last = _after_pause(testbed)
    heavy, light = _shares(testbed, seconds)
    note = f"{heavy:,} and {light:,} people"
    share = heavy / max(1, light)
    return [
        Figure(GROUP, "pause to last call", last, "s", at_most=2),
        Figure(GROUP, "share by weights 3:1", share, "×", at_least=2.7, at_most=3.3, note=note),
    ]


def _after_pause(testbed: Testbed) -> float:
    """Seconds from before the command to the last call's arrival."""
    testbed.clear(calls=CALLS, recipients="")
    created = broadcast.create(testbed, "broadcast", LIMIT * broadcast.A_CALL * 20)
    with testbed.workers(2, env=testbed.rules(calls=CALLS, recipients="")):
        broadcast.move(testbed, "start", created)
        watch.wait(testbed, LEAD)
        paused = broadcast.move(testbed, "pause", created)
        time.sleep(LEAD)
        return testbed.calls()[-1]["monotonic"] - paused


def _shares(testbed: Testbed, seconds: float) -> tuple[int, int]:
    """People reached by the heavy and the light campaign, within so many seconds."""
    each = int(LIMIT * broadcast.A_CALL * (seconds + LEAD + 5))
    testbed.clear(people=each * 2, calls=CALLS, recipients="")
    heavy = broadcast.create(testbed, "heavy", each, weight=WEIGHT)
    light = broadcast.create(testbed, "light", each, first=each + 1)
    with testbed.workers(2, env=testbed.rules(calls=CALLS, recipients="")):
        for created in (heavy, light):
            broadcast.move(testbed, "start", created)
        watch.wait(testbed, LEAD)
        before = _reached(testbed)
        time.sleep(seconds)
        after = _reached(testbed)
        for created in (heavy, light):
            broadcast.move(testbed, "cancel", created)
    heavy_people, light_people = (
        after.get(created.text, 0) - before.get(created.text, 0) for created in (heavy, light)
    )
    return heavy_people, light_people


def _reached(testbed: Testbed) -> dict[str, int]:
    """Text → people who have it."""
    contents = testbed.sandbox.inboxes()["contents"]
    return {content["message"]["text"]["content"]: content["delivered"] for content in contents}
