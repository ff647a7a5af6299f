"""5,000 recipients a minute: beyond, DingTalk answers success and delivers nothing (API §2.1)."""

import json

import pytest

from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend

PEOPLE = 6_000
A_MINUTE = 5_000
NO_CALLS_RULE = json.dumps({"*": {"calls": ""}})


@pytest.mark.timeout(180)
def test_no_minute_holds_more_recipients_than_dingtalk_delivers_to(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin
) -> None:
    sandbox.seed(users=PEOPLE, departments=10)
    sandbox.set_limits(calls="")
    ids: list[str] = []
    client.send_many(
        (
            MessageSend.parse(
                {
                    "to": {"users": [f"u{number}"]},
                    "message": {"msgtype": "text", "text": {"content": f"第{number}条"}},
                }
            )
            for number in range(1, PEOPLE + 1)
        ),
        on_sent=lambda ref: ids.append(ref.id),
    )
    fleet.spawn(2, concurrency=16, DINGRELAY_RULES=NO_CALLS_RULE)
    ended = wait_for_ends(client, ids, timeout=120)
    assert {(status.state, status.attempts) for status in ended} == {(State.DONE, 1)}
    audit = sandbox.audit()
    assert (audit["delivered"], audit["reached"], audit["dropped"]) == (PEOPLE, PEOPLE, {})
    # Far below would be a waste of the limit.
    assert 0.9 * A_MINUTE <= audit["max_recipients_60s"] <= A_MINUTE
