"""One message in several calls, lost answers, and what became of the delivery."""

import json
from collections import Counter
from typing import Any

from acceptance.fleet import Fleet
from conftest import wait_until
from dingrelay_producers import Client, JobRef, State
from dingrelay_sandbox.admin import SandboxAdmin
from support.jobs import message

NO_RECIPIENTS_RULE = json.dumps({"message.send": {"recipients": ""}})
SEND = "/topapi/message/corpconversation/asyncsend_v2"
USERS = [f"u{number}" for number in range(1, 251)]


def send(client: Client, content: str, users: list[str], **fields: Any) -> JobRef:
    return client.send(message(*users, text=content, **fields))


def second_call_of(users: list[str]) -> dict[str, str]:
    """The fields that distinguish the second call of a message to these users."""
    return {"userid_list": ",".join(users[100:200])}


def accepted(sandbox: SandboxAdmin) -> list[int]:
    """The recipients of each call that was carried out, in order."""
    return [call["recipients"] for call in sandbox.calls(api=SEND) if call["verdict"] == "ok"]


def test_a_waiting_job_repeats_no_call(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    sandbox.seed(users=250, departments=5)
    sandbox.add_fault("throttle", api=SEND, code=90018, count=2, match=second_call_of(USERS))
    sandbox.set_limits(recipients="")
    fleet.spawn(2, concurrency=4, DINGRELAY_RULES=NO_RECIPIENTS_RULE)
    status = send(client, "分三次", USERS).wait(30)
    assert (status.state, status.attempts, status.throttles) == (State.DONE, 1, 2)
    assert status.result is not None
    assert [call["recipients"] for call in status.result["calls"]] == [100, 100, 50]
    assert accepted(sandbox) == [100, 100, 50]
    assert sandbox.audit()["reached"] == 250

    # A lost answer: only that call is repeated, and DingTalk drops what arrived.
    sandbox.add_fault("lost_answer", api=SEND, count=1, match=second_call_of(USERS))
    status = send(client, "又分三次", USERS).wait(30)
    assert (status.state, status.attempts) == (State.DONE, 2)
    assert accepted(sandbox)[3:] == [100, 100, 100, 50]
    audit = sandbox.audit()
    assert (audit["delivered"], audit["dropped"]) == (500, {"143106": 100})


def test_finished_calls_survive_a_kill(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    sandbox.seed(users=250, departments=5)
    sandbox.add_fault("hang", api=SEND, count=1, match=second_call_of(USERS))
    (doomed,) = fleet.spawn(1, concurrency=4, DINGRELAY_LEASE="2")
    ref = send(client, "分三次", USERS)
    wait_until(lambda: sandbox.audit()["faults"].get("hang"), what="the second call hangs")
    fleet.spawn(1, concurrency=4, DINGRELAY_LEASE="2")
    doomed.kill()
    status = ref.wait(30)
    assert status.state == State.DONE
    assert accepted(sandbox) == [100, 100, 50]
    assert sandbox.audit()["delivered"] == 250


def test_unknown_and_dropped_are_named(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    fleet.spawn(1, concurrency=4)
    sandbox.add_fault("lost_answer", api=SEND, count=1)
    stopped = send(client, "只此一次", ["u1"], on_unknown="stop").wait(20)
    assert stopped.state == State.UNKNOWN
    assert stopped.error.error_class == "unknown"
    assert accepted(sandbox) == [1]

    assert send(client, "在吗", ["u2"]).wait(20).state == State.DONE
    people = ["u1", "u2", "stranger"]
    confirmed = send(client, "在吗", people, allow_duplicate=True, confirm=True).wait(30)
    assert (confirmed.state, confirmed.attempts) == (State.DONE, 1)
    assert confirmed.result["invalid"] == ["stranger"]
    forbidden = Counter((each["userid"], each["code"]) for each in confirmed.result["forbidden"])
    assert forbidden == {("u2", "143106"): 1}
