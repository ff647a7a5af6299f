"""The sandbox's clock can be wrong: days and lists follow it, rates do not."""

import pytest

from unit.sandbox_caller import NOON, SEND, Caller

INSTANCES = "/v1.0/workflow/processInstances"
QUERY = "/v1.0/workflow/processes/instanceIds/query"
HALF_A_DAY = 43_200.0


@pytest.fixture
def caller() -> Caller:
    return Caller()


def create(caller: Caller) -> str:
    payload = {
        "processCode": "PROC-ANY",
        "originatorUserId": "u1",
        "deptId": -1,
        "formComponentValues": [{"name": "a", "value": "1"}],
    }
    return str(caller.post(INSTANCES, payload).body["instanceId"])


def listed(caller: Caller, start: float) -> list[str]:
    wanted = {"processCode": "PROC-ANY", "startTime": int(start * 1000)}
    found = caller.post(QUERY, {**wanted, "nextToken": 0, "maxResults": 20}).body["result"]["list"]
    return [str(each) for each in found]


@pytest.mark.parametrize("offset", [60.0, -60.0])
def test_create_times_and_lists_follow_the_clock(caller: Caller, offset: float) -> None:
    caller.state.set_clock(offset)
    made = create(caller)
    assert caller.state.approvals.instances[made].created_at == NOON + offset
    assert listed(caller, NOON + offset) == [made]
    caller.now += 5
    assert listed(caller, NOON + offset + 1) == []


def test_approvals_are_listed_after_the_clock_went_back(caller: Caller) -> None:
    made = create(caller)
    caller.state.set_clock(-60)
    assert listed(caller, NOON - 60) == [made]


def test_the_day_turns_by_the_clock_and_back(caller: Caller) -> None:
    caller.limit(token_seconds=1_000_000)
    caller.log_in()
    caller.send("hello", "u1")
    caller.state.set_clock(HALF_A_DAY)
    caller.send("hello", "u1")
    caller.state.set_clock(0)
    caller.send("hello", "u1")
    assert caller.reasons("u1") == ["", "", "143106"]


@pytest.mark.parametrize("window", ["sliding", "bucket"])
@pytest.mark.parametrize("offset", [60.0, -60.0])
def test_rates_go_on_as_before(caller: Caller, window: str, offset: float) -> None:
    caller.limit(calls="2/1s", recipients="3/60s", window=window)
    assert [caller.send(f"{n}", "u1").code for n in range(3)] == ["0", "0", "90018"]
    caller.state.set_clock(offset)
    assert caller.send("4", "u1").code == "90018"
    caller.now += 1.1
    assert caller.send("5", "u1", "u2").code == "0"
    assert (caller.reasons("u1"), caller.reasons("u2")) == (["", "", ""], ["143103"])
    assert caller.state.sends.most_recipients() == 4
    assert caller.state.audit.most_calls()[SEND] == 4


def test_a_ban_lasts_as_long_whatever_the_clock_says(caller: Caller) -> None:
    caller.limit(calls="", egress="1/20s")
    for _ in range(2):
        caller.outcome("POST", SEND, remote="10.0.0.1")
    caller.state.set_clock(600)
    assert caller.outcome("POST", SEND, remote="10.0.0.1").answer.status == 403


def test_a_reset_sets_the_clock_right(caller: Caller) -> None:
    caller.state.set_clock(60)
    caller.state.reset()
    assert caller.state.clock() == NOON
