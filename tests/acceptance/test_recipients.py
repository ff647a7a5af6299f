"""So many recipients a while: beyond, DingTalk answers success and delivers nothing (API §2.1).

A window shorter than DingTalk's minute, and fewer people in it: what keeps the limit is the same.
"""

import json

import pytest

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import Row, SandboxAdmin
from jobs import message

PEOPLE = 360
A_WINDOW = 300
WINDOW = 10
"""Seconds. A busy machine sends more in them than the limit lets through."""
RECIPIENTS = f"{A_WINDOW}/{WINDOW}s"
RULES = json.dumps({"*": {"calls": ""}, "message.send": {"recipients": RECIPIENTS}})


@pytest.mark.timeout(180)
def test_no_window_exceeds_its_limit(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    sandbox.seed(users=PEOPLE, departments=10)
    sandbox.set_limits(calls="", recipients=RECIPIENTS)
    ids = traffic.send_all(
        client, (message(f"u{number}", text=f"第{number}条") for number in range(1, PEOPLE + 1))
    )
    fleet.spawn(2, concurrency=16, DINGRELAY_RULES=RULES)
    ended = wait_for_ends(client, ids, timeout=120)
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}
    audit = sandbox.audit()
    assert (audit["delivered"], audit["reached"], audit["dropped"]) == (PEOPLE, PEOPLE, {})
    # Far below would be a waste of the limit. In so short a window, what a call may be late takes
    # a twentieth already, and a call that is late all the same is charged twice.
    assert 0.75 * A_WINDOW <= most(sandbox.calls()) <= A_WINDOW


def most(calls: list[Row]) -> int:
    """The most recipients of the calls in any window."""
    return max(
        sum(
            call["recipients"]
            for call in calls
            if first["monotonic"] <= call["monotonic"] < first["monotonic"] + WINDOW
        )
        for first in calls
    )
