"""Messages that DingTalk would accept and drop silently are not sent, and the job reports them (API §2.1)."""

import json
from collections import Counter

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from jobs import message

NO_RULES = json.dumps({"*": {"calls": ""}, "message.send": {"recipients": ""}})
A_DAY = 500
EVERYONE_A_DAY = 3


def test_nothing_is_dropped_in_silence(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    sandbox.set_limits(calls="", recipients="")
    fleet.spawn(2, concurrency=8, DINGRELAY_RULES=NO_RULES)
    notices = [f"通知{number}" for number in range(EVERYONE_A_DAY + 1)]
    to_everyone = [message(text=notice, to={"everyone": True}) for notice in notices]
    everyone = traffic.send_all(client, to_everyone)
    ended = wait_for_ends(client, everyone, timeout=20)
    assert Counter(status.state for status in ended) == {State.DONE: EVERYONE_A_DAY, State.DEAD: 1}
    assert [status.error.code for status in ended if status.error] == ["everyone_cap"]

    # What went to everyone is part of each person's day.
    left = A_DAY - EVERYONE_A_DAY
    to_one = (message("u1", text=f"第{number}条") for number in range(left + 5))
    many = traffic.send_all(client, to_one)
    twice = traffic.send_all(client, (message("u2", text="同样") for _ in range(10)))
    ended = wait_for_ends(client, many, timeout=60)
    assert Counter(status.state for status in ended) == {State.DONE: left, State.DUPLICATE: 5}
    left_out = [status.result or {} for status in ended if status.state == State.DUPLICATE]
    assert all(result["daily_cap"] == ["u1"] and not result["duplicate"] for result in left_out)

    ended = wait_for_ends(client, twice, timeout=20)
    assert Counter(status.state for status in ended) == {State.DONE: 1, State.DUPLICATE: 9}
    left_out = [status.result or {} for status in ended if status.state == State.DUPLICATE]
    assert all(result["duplicate"] == ["u2"] and not result["daily_cap"] for result in left_out)

    assert sandbox.audit()["dropped"] == {}
    assert len(sandbox.inbox("u1")["delivered"]) == A_DAY
