import json
from typing import Any

import pytest
from pydantic import ValidationError

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.call import Call
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
    caller.state.faults.add(FaultSpec.model_validate(spec))


def call(path: str = "/x") -> Call:
    return Call(
        method="POST",
        path=path,
        dialect="oapi",
        query={},
        header_token="",
        content_type="application/json",
        payload=None,
        size=0,
        remote="",
    )


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
    assert caller.state.audit.total("throttled") == 1


def test_an_error_as_scripted(caller: Caller) -> None:
    script(caller, kind="error", count=1)
    script(caller, kind="error", code="60011", message="no", count=1)
    script(caller, kind="error", body={"errcode": "0"}, status=418, count=1)
    assert caller.post(LIST, {}).body["errcode"] == -1
    assert caller.post(LIST, {}).body["errcode"] == 60_011
    reply = caller.post(LIST, {})
    assert (reply.status, reply.body) == (418, {"errcode": "0"})
    assert caller.state.audit.total("fault") == 3


ANSWERING = ["error", "html", "http", "throttle", "token_expired", "truncated", "wrong_types"]
SILENT = {"hang": "hang", "lost_answer": "close"}


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", [*ANSWERING, *SILENT])
def test_faults_precede_or_follow_the_effect(caller: Caller, kind: str, effect: bool) -> None:
    script(caller, kind=kind, effect=effect)
    outcome = send(caller)
    assert outcome.ending == SILENT.get(kind, "answer")
    assert caller.reasons("u1") == ([""] if effect else [])
    call = caller.state.audit.calls(since=0, api=SEND, limit=1)[0]
    assert (call["verdict"] == "ok", call["fault"]) == (effect, kind)
    if outcome.ending == "answer":
        with pytest.raises((KeyError, TypeError, ValueError)):
            int(json.loads(outcome.answer.body)["task_id"])


@pytest.mark.parametrize(
    ("kind", "ending", "effect"),
    [
        ("reset_before", "reset", False),
        ("reset_after", "reset", True),
        ("hang", "hang", False),
        ("http", "answer", False),
        ("lost_answer", "close", True),
        ("truncated", "answer", True),
        ("wrong_types", "answer", True),
    ],
)
def test_a_kind_has_its_own_moment(caller: Caller, kind: str, ending: str, effect: bool) -> None:
    script(caller, kind=kind)
    assert send(caller).ending == ending
    assert caller.reasons("u1") == ([""] if effect else [])


@pytest.mark.parametrize("effect", [True, False])
@pytest.mark.parametrize("kind", ANSWERING)
def test_a_fault_answers_as_it_is_configured(caller: Caller, kind: str, effect: bool) -> None:
    wanted = {"status": 418, "body": {"errcode": "0"}, "headers": {"Retry-After": "7"}}
    script(caller, kind=kind, effect=effect, **wanted)
    answer = send(caller).answer
    assert (answer.status, answer.headers) == (418, (("Retry-After", "7"),))
    assert json.loads(answer.body) == {"errcode": "0"}
    assert caller.reasons("u1") == ([""] if effect else [])


def test_a_page_of_a_gateway_is_no_ban(caller: Caller) -> None:
    script(caller, kind="html", status=503)
    answer = send(caller).answer
    assert (answer.status, answer.content_type) == (503, "text/html")
    assert not any(word in answer.body for word in (b"punish", b"1111", b"x5", b"Forbidden"))


def test_credentials_are_refused_while_tokens_stay_good(caller: Caller) -> None:
    script(caller, kind="credentials_refused")
    pair = {"appkey": "sandbox-key", "appsecret": "sandbox-secret"}
    assert caller.get("/gettoken", **pair).code == "40096"
    new = {"appKey": "sandbox-key", "appSecret": "sandbox-secret"}
    refused = caller.post("/v1.0/oauth2/accessToken", new)
    assert (refused.status, refused.code) == (400, "invalidClientIdOrSecret")
    assert caller.send("x", "u1").code == "0"


def test_a_fault_of_one_host_or_one_app_leaves_the_others(caller: Caller) -> None:
    script(caller, kind="error", dialect="rest", count=1)
    assert caller.send("x", "u1").code == "0"
    assert caller.get(INSTANCES, processInstanceId="x").code == "systemError"
    caller.state.apps["other"] = App(app_key="other", app_secret="s")
    script(caller, kind="error", app="other")
    assert caller.send("x", "u1").code == "0"
    assert caller.get("/gettoken", appkey="other", appsecret="s").code == "-1"
    caller.state.faults.delete()
    caller.log_in("other", "s")
    script(caller, kind="error", app="other")
    assert caller.send("x", "u1").code == "-1"


def test_a_fault_of_several_apis(caller: Caller) -> None:
    script(caller, kind="error", api=["/gettoken", LIST])
    assert caller.get("/gettoken", appkey="x", appsecret="y").code == "-1"
    assert caller.post(LIST, {}).code == "-1"
    assert caller.send("x", "u1").code == "0"


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
    assert Caller(caller.state).token != caller.token
    assert caller.state.tokens.issued == 2


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
    first = faults.add(FaultSpec(kind="error", count=2))
    assert [bool(faults.draw(call())) for _ in range(3)] == [True, True, False]
    faults.add(FaultSpec(kind="error", seconds=10))
    assert faults.draw(call())
    now = 10.0
    assert not faults.draw(call())
    number = faults.add(FaultSpec(kind="error"))
    assert faults.draw(call())
    assert [each["met"] for each in faults.report()] == [1]
    assert faults.delete(number) == 1
    assert not faults.draw(call())
    assert (faults.find(first)["met"], faults.find(first)["over"]) == (2, True)
    faults.add(FaultSpec(kind="error"))
    assert (faults.delete(), faults.delete(number), faults.report()) == (1, 0, [])


def test_a_share_of_the_calls() -> None:
    faults = Faults()
    faults.add(FaultSpec(kind="error", share=0.3))
    met = sum(bool(faults.draw(call())) for _ in range(2_000))
    assert 450 < met < 750


def test_faults_are_drawn_by_their_times() -> None:
    now = 0.0
    faults = Faults(lambda: now)
    faults.add(FaultSpec(kind="http", seconds=10))
    faults.add(FaultSpec(kind="error", starts_in=10, seconds=10))
    story = list[str]()
    for moment in (0.0, 9.9, 10.0, 19.9, 20.0):
        now = moment
        drawn = faults.draw(call())
        story.append(drawn.kind if drawn else "")
    assert story == ["http", "http", "error", "error", ""]


def test_latency_adds_up_and_spoils_nothing() -> None:
    faults = Faults()
    faults.add(FaultSpec(kind="latency", min_ms=100, max_ms=100))
    faults.add(FaultSpec(kind="latency", min_ms=50, max_ms=50, api="/x"))
    faults.add(FaultSpec(kind="latency", min_ms=7, max_ms=7, effect=True))
    assert faults.delay(call(), effect=False) == pytest.approx(0.15)
    assert faults.delay(call("/y"), effect=False) == pytest.approx(0.1)
    assert faults.delay(call(), effect=True) == pytest.approx(0.007)
    assert faults.draw(call()) is None


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "nonsense"},
        {"kind": "error", "share": 0},
        {"kind": "error", "count": 0},
        {"kind": "latency", "min_ms": 5, "max_ms": 1},
        {"kind": "reset_before", "effect": True},
        {"kind": "error", "starts_in": -1},
        {"kind": "error", "unknown": 1},
    ],
)
def test_a_wrong_fault_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FaultSpec.model_validate(spec)
