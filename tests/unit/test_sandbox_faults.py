import json
from typing import Any

import pytest
from pydantic import ValidationError

from dingrelay_sandbox.faults import Faults, FaultSpec
from unit.sandbox_caller import SEND, Caller

LIST = "/topapi/v2/user/list"
INSTANCES = "/v1.0/workflow/processInstances"


@pytest.fixture
def caller() -> Caller:
    caller = Caller()
    caller.limit(calls="", same_content=False)
    return caller


def script(caller: Caller, **spec: Any) -> None:
    caller.world.faults.add(FaultSpec.model_validate(spec))


def send(caller: Caller) -> Any:
    payload = {
        "agent_id": 1000001,
        "userid_list": "u1",
        "msg": {"msgtype": "text", "text": {"content": "x"}},
    }
    query = {"access_token": caller.token}
    return caller.outcome("POST", SEND, query=query, payload=payload)


@pytest.mark.parametrize(
    ("path", "code", "status", "expected"),
    [
        (LIST, None, 200, {"errcode": 88, "sub_code": "90018"}),
        (LIST, 43004, 200, {"errcode": 43004}),
        (LIST, "90002", 200, {"errcode": 88, "sub_code": "90002"}),
        (LIST, "strange.code", 200, {"errcode": 88, "sub_code": "strange.code"}),
        (INSTANCES, None, 403, {"code": "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"}),
        (INSTANCES, "43004", 403, {"code": "43004"}),
    ],
)
def test_a_throttle_with_any_code_in_either_dialect(
    caller: Caller, path: str, code: Any, status: int, expected: dict[str, Any]
) -> None:
    script(caller, kind="throttle", code=code)
    reply = caller.post(path, {})
    assert reply.status == status
    assert expected.items() <= reply.body.items()
    assert caller.world.audit.total("throttled") == 1


def test_an_error_as_scripted(caller: Caller) -> None:
    script(caller, kind="error", count=1)
    script(caller, kind="error", code="60011", message="no", count=1)
    script(caller, kind="error", body={"errcode": "0"}, status=418, count=1)
    assert caller.post(LIST, {}).body["errcode"] == -1
    assert caller.post(LIST, {}).body["errcode"] == 60_011
    reply = caller.post(LIST, {})
    assert (reply.status, reply.body) == (418, {"errcode": "0"})
    assert caller.world.audit.total("fault") == 3


@pytest.mark.parametrize("kind", ["http", "html", "hang", "reset_before", "error", "throttle"])
def test_a_fault_before_the_effect_leaves_none(caller: Caller, kind: str) -> None:
    script(caller, kind=kind)
    send(caller)
    assert caller.reasons("u1") == []


@pytest.mark.parametrize(
    ("spec", "ending"),
    [
        ({"kind": "lost_answer"}, "close"),
        ({"kind": "reset_after"}, "reset"),
        ({"kind": "truncated"}, "answer"),
        ({"kind": "wrong_types"}, "answer"),
        ({"kind": "hang", "effect": True}, "hang"),
        ({"kind": "http", "effect": True}, "answer"),
    ],
)
def test_a_fault_after_the_effect_spoils_the_answer_only(
    caller: Caller, spec: dict[str, Any], ending: str
) -> None:
    script(caller, **spec)
    assert send(caller).ending == ending
    assert caller.reasons("u1") == [""]
    call = caller.world.audit.calls(since=0, api=SEND, limit=1)[0]
    assert (call["verdict"], call["fault"]) == ("ok", spec["kind"])


def test_spoilt_answers_are_not_what_was_documented(caller: Caller) -> None:
    script(caller, kind="truncated", count=1)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(send(caller).answer.body)
    script(caller, kind="wrong_types", count=1)
    assert json.loads(send(caller).answer.body)["errcode"] == [0]
    assert json.loads(send(caller).answer.body)["errcode"] == 0


def test_a_fault_that_ends_the_token(caller: Caller) -> None:
    script(caller, kind="token_expired", count=1)
    assert caller.post(LIST, {}).code == "42001"
    assert caller.post(LIST, {}).code == "42001"
    assert Caller(caller.world).token != caller.token
    assert caller.world.tokens.issued == 2


def test_a_fault_meets_what_it_was_scripted_for(caller: Caller) -> None:
    script(caller, kind="error", api=LIST, match={"dept_id": 2})
    page = {"cursor": 0, "size": 10}
    assert caller.post(LIST, {"dept_id": 2, **page}).code == "-1"
    assert caller.post(LIST, {"dept_id": "2", **page}).code == "-1"
    assert caller.post(LIST, {"dept_id": 3, **page}).code == "0"
    assert caller.send("x", "u1").code == "0"


def test_a_fault_ends_by_count_by_time_and_by_hand() -> None:
    now = 0.0
    faults = Faults(lambda: now)
    faults.add(FaultSpec(kind="error", count=2))
    assert [bool(faults.draw("/x", {})) for _ in range(3)] == [True, True, False]
    faults.add(FaultSpec(kind="error", seconds=10))
    assert faults.draw("/x", {})
    now = 10.0
    assert not faults.draw("/x", {})
    number = faults.add(FaultSpec(kind="error"))
    assert faults.draw("/x", {})
    assert [each["met"] for each in faults.report()] == [1]
    assert faults.delete(number) == 1
    assert not faults.draw("/x", {})
    faults.add(FaultSpec(kind="error"))
    assert (faults.delete(), faults.delete(number), faults.report()) == (1, 0, [])


def test_a_share_of_the_calls() -> None:
    faults = Faults()
    faults.add(FaultSpec(kind="error", share=0.3))
    met = sum(bool(faults.draw("/x", {})) for _ in range(2_000))
    assert 450 < met < 750


def test_latency_adds_up_and_spoils_nothing() -> None:
    faults = Faults()
    faults.add(FaultSpec(kind="latency", min_ms=100, max_ms=100))
    faults.add(FaultSpec(kind="latency", min_ms=50, max_ms=50, api="/x"))
    assert faults.delay("/x", {}) == pytest.approx(0.15)
    assert faults.delay("/y", {}) == pytest.approx(0.1)
    assert faults.draw("/x", {}) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "nonsense"},
        {"kind": "error", "share": 0},
        {"kind": "error", "count": 0},
        {"kind": "latency", "min_ms": 5, "max_ms": 1},
        {"kind": "throttle", "effect": True},
        {"kind": "error", "unknown": 1},
    ],
)
def test_what_is_no_fault_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FaultSpec.model_validate(spec)
