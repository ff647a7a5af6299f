"""Tokens, limits and the shapes of refusals (API §1, §5.2, §6)."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dingrelay_sandbox.apis.api import DECLARED
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.faults import FaultSpec
from dingrelay_workers.dingtalk.apis import APIS
from support.examples import either, json_values
from unit.sandbox_caller import SEND, Caller

LIST = "/topapi/v2/department/listsub"
INSTANCES = "/v1.0/workflow/processInstances"


@pytest.fixture
def caller() -> Caller:
    return Caller()


def test_a_second_fetch_returns_the_same_token_renewed(caller: Caller) -> None:
    caller.now += 7_000
    again = caller.post(
        "/v1.0/oauth2/accessToken", {"appKey": "sandbox-key", "appSecret": "sandbox-secret"}
    )
    assert again.body == {"accessToken": caller.token, "expireIn": 7_200}
    caller.now += 7_000
    assert caller.post(LIST, {"dept_id": 1}).body["errcode"] == 0
    assert (caller.state.tokens.fetches, caller.state.tokens.issued) == (2, 1)


def test_a_token_is_good_on_both_hosts_until_it_expires(caller: Caller) -> None:
    assert caller.get(INSTANCES, processInstanceId="x").code == "processInstanceNotExist"
    caller.now += 7_200
    old, new = caller.post(LIST, {"dept_id": 1}), caller.get(INSTANCES, processInstanceId="x")
    assert (old.status, old.body["errcode"], old.code) == (200, 88, "42001")
    assert (new.status, new.code) == (400, "InvalidAuthentication")


def test_the_unified_token_api_wants_the_organisation(caller: Caller) -> None:
    wanted = {
        "client_id": "sandbox-key",
        "client_secret": "sandbox-secret",
        "grant_type": "client_credentials",
    }
    known = caller.post("/v1.0/oauth2/sandbox-corp/token", wanted)
    unknown = caller.post("/v1.0/oauth2/other-corp/token", wanted)
    assert known.body == {"access_token": caller.token, "expires_in": 7_200}
    assert (unknown.status, unknown.code) == (500, "unknownError")


def test_wrong_credentials_have_their_codes(caller: Caller) -> None:
    old = caller.get("/gettoken", appkey="sandbox-key", appsecret="wrong")
    bare = caller.get("/gettoken")
    new = caller.post("/v1.0/oauth2/accessToken", {"appKey": "x", "appSecret": "y"})
    assert old.body == {"errcode": 40096, "errmsg": "不合法的appKey或appSecret"}
    assert (bare.status, bare.code) == (200, "40035")
    assert (new.status, new.code) == (400, "invalidClientIdOrSecret")
    assert new.body["requestid"]


@pytest.mark.parametrize(
    ("path", "token", "status", "body"),
    [
        (LIST, "bad", 200, {"errcode": 88, "sub_code": "40014", "sub_msg": "不合法的access_token"}),
        (LIST, "", 200, {"errcode": 88, "sub_code": "40000", "sub_msg": "access_token is blank"}),
        (INSTANCES, "bad", 400, {"code": "InvalidAuthentication"}),
        (INSTANCES, "", 400, {"code": "AuthenticationFailed.MissingParameter"}),
    ],
)
def test_bad_and_missing_tokens(
    caller: Caller, path: str, token: str, status: int, body: dict[str, Any]
) -> None:
    reply = caller.post(path, {}, token=token)
    assert reply.status == status
    assert body.items() <= reply.body.items()
    assert reply.body.get("request_id") or reply.body.get("requestid")
    assert caller.state.audit.total("token") == 1


def test_a_revoked_token_is_unknown_and_the_next_one_is_new(caller: Caller) -> None:
    caller.state.tokens.revoke()
    assert caller.post(LIST, {"dept_id": 1}).code == "40014"
    assert Caller(caller.state).token != caller.token


def test_the_call_over_the_rate_gets_a_time_to_come_again(caller: Caller) -> None:
    assert all(caller.post(LIST, {"dept_id": 1}).code == "0" for _ in range(20))
    refused = caller.post(LIST, {"dept_id": 1})
    assert refused.status == 200
    assert refused.body["errcode"] == 88
    assert refused.body["sub_code"] == "90018"
    assert (
        "apiPath(dingtalk.oapi.v2.department.listsub), 从 2026-11-24 12:00:00 到 "
        "2026-11-24 12:00:00 请求总次数超过 20 次, 限制将在 2026-11-24 12:00:01 结束"
    ) in refused.body["sub_msg"]
    assert refused.body["sub_msg"] in refused.body["errmsg"]
    caller.now += 1
    assert caller.post(LIST, {"dept_id": 1}).code == "0"


def test_each_api_and_each_app_has_its_own_rate(caller: Caller) -> None:
    caller.state.apps["other"] = App(app_key="other", app_secret="s")
    other = Caller(caller.state)
    other.log_in("other", "s")
    caller.limit(calls="1/1s")
    assert caller.post(LIST, {"dept_id": 1}).code == "0"
    assert caller.post(LIST, {"dept_id": 1}).code == "90018"
    assert caller.post("/topapi/v2/department/get", {"dept_id": 1}).code == "0"
    other.now = caller.now
    assert other.post(LIST, {"dept_id": 1}).code == "0"


def test_reading_an_approval_and_creating_one_are_two_apis_of_one_path(caller: Caller) -> None:
    caller.limit(calls="1/1s")
    caller.get(INSTANCES, processInstanceId="x")
    created = caller.post(INSTANCES, {"processCode": "none"})
    assert "QpsLimit" not in created.code
    assert "QpsLimit" in caller.post(INSTANCES, {"processCode": "none"}).code
    assert caller.state.audit.most_calls()[INSTANCES] == 2


def test_an_api_can_have_a_rate_of_its_own(caller: Caller) -> None:
    caller.limit(calls="", apis={LIST: "1/1s"})
    assert caller.post(LIST, {"dept_id": 1}).code == "0"
    assert caller.post(LIST, {"dept_id": 1}).code == "90018"
    assert {caller.send("x", "u1").code for _ in range(50)} == {"0"}


def test_the_new_dialect_throttles_with_403(caller: Caller) -> None:
    caller.limit(calls="1/1s")
    caller.get(INSTANCES, processInstanceId="x")
    refused = caller.get(INSTANCES, processInstanceId="x")
    assert refused.status == 403
    assert refused.code == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"


def test_a_path_outside_topapi_throttles_at_top_level(caller: Caller) -> None:
    caller.limit(calls="1/1s")
    caller.get("/department/list", id="1")
    refused = caller.get("/department/list", id="1")
    assert refused.body["errcode"] == 90_018
    assert "apiPath(/department/list)" in refused.body["errmsg"]


def test_the_throttle_code_can_be_chosen(caller: Caller) -> None:
    caller.limit(calls="1/1s", throttle_code="43004")
    caller.post(LIST, {"dept_id": 1})
    assert caller.post(LIST, {"dept_id": 1}).body["errcode"] == 43_004
    assert caller.state.audit.total("throttled") == 1


def test_the_month_runs_out_for_counted_calls_only(caller: Caller) -> None:
    caller.limit(quota=2)
    assert [caller.send("x", "u1").code for _ in range(3)] == ["0", "0", "90020"]
    new = caller.get(INSTANCES, processInstanceId="x")
    assert (new.status, new.code) == (403, "Forbidden.AccessDenied.ApiCountLimitForOrg")
    assert caller.post(LIST, {"dept_id": 1}).code == "0"
    caller.now += 8 * 86_400
    caller.log_in()
    assert caller.send("x", "u1").code == "0"
    assert caller.state.limiter.used == {"sandbox-corp 2026-11": 2, "sandbox-corp 2026-12": 1}


def test_throttled_calls_do_not_count_for_the_month(caller: Caller) -> None:
    caller.limit(calls="1/1s")
    for _ in range(5):
        caller.send("x", "u1")
    assert caller.state.limiter.used == {"sandbox-corp 2026-11": 1}


@pytest.mark.parametrize("shape", ["html", "json"])
def test_a_flooding_address_is_banned(caller: Caller, shape: str) -> None:
    caller.limit(calls="", egress="5/20s", egress_ban_answer=shape)
    banned = [caller.outcome("POST", LIST, remote="10.0.0.1").answer for _ in range(6)][-1]
    if shape == "html":
        assert banned.content_type == "text/html"
    else:
        assert json.loads(banned.body)["status"] == 1111
    assert caller.post(LIST, {"dept_id": 1}, remote="10.0.0.2").code == "0"
    caller.now += 299
    still = caller.outcome("POST", LIST, remote="10.0.0.1").answer
    assert (still.status, still.content_type) == (banned.status, banned.content_type)
    assert caller.state.audit.total("throttled") == 2
    caller.now += 2
    assert caller.post(LIST, {"dept_id": 1}, remote="10.0.0.1").code == "0"


def test_a_body_must_be_json_and_say_so(caller: Caller) -> None:
    assert caller.post(LIST, {}, content_type="text/plain").body["errcode"] == 43_004
    assert caller.post(LIST, None).code == "43009"
    assert caller.post(INSTANCES, {}, content_type="text/plain").code == "Missingbody"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/topapi/nothing", 200, "22"),
        ("/nothing", 200, "404"),
        ("/v1.0/nothing", 404, "InvalidAction.NotFound"),
    ],
)
def test_an_unknown_path(caller: Caller, path: str, status: int, code: str) -> None:
    reply = caller.post(path, {})
    assert reply.status == status
    assert str(reply.body.get("errcode", reply.code)) == code


def test_an_unknown_topapi_path_is_an_invalid_method(caller: Caller) -> None:
    body = caller.post("/topapi/no/thing", {}).body
    assert body["errmsg"] == f"Invalid method[submsg={body['sub_msg']}]"


@pytest.mark.parametrize(
    "path", ["/v1.0/todo/users/U1/tasks", "/v1.0/doc/workspaces", "/topapi/role/list", "/call/back"]
)
def test_an_unknown_path_says_how_to_script_its_answer(caller: Caller, path: str) -> None:
    refused = caller.post(path, {})
    message = next(
        refused.body[name] for name in ("message", "sub_msg", "errmsg") if name in refused.body
    )
    assert message.startswith(f"the sandbox does not have POST {path}, which says nothing")
    script = json.loads(message.partition("/_sandbox/faults ")[2].replace("…", '"id": "t1"'))
    caller.state.faults.add(FaultSpec(**script))
    answered = caller.post(path, {})
    assert (answered.status, answered.body) == (200, {"id": "t1"})


def test_every_call_is_in_the_audit(caller: Caller) -> None:
    caller.limit(calls="1/1s")
    caller.send("x", "u1", "u2")
    caller.send("x", "u1")
    calls = caller.state.audit.calls(since=0, api=SEND, limit=10)
    assert [(each["verdict"], each["code"], each["recipients"]) for each in calls] == [
        ("ok", "", 2),
        ("throttled", "90018", 0),
    ]
    assert caller.state.audit.most_calls()[SEND] == 2


NAMES = [
    "agent_id", "userid_list", "dept_id_list", "to_all_user", "msg", "msgtype", "text", "task_id",
    "msg_task_id", "dept_id", "cursor", "size", "userid", "processCode", "originatorUserId",
    "formComponentValues", "deptId", "approvers", "ccList", "processInstanceId", "startTime",
    "endTime", "nextToken", "maxResults", "userIds", "statuses", "process_code",
    "originator_user_id", "form_component_values", "approvers_v2", "cc_list", "start_time",
    "end_time", "request", "process_instance_id", "robotCode", "msgKey", "msgParam", "appKey",
    "appSecret", "status_value", "taskId", "result", "remark", "actionerUserId", "operateUserId",
    "toUserId", "commentUserId", "file", "userId", "targetSelectActioners",
]  # fmt: skip
GOOD: dict[str, Any] = {
    "agent_id": 1000001,
    "processCode": "PROC-ANY",
    "process_code": "PROC-ANY",
    "originatorUserId": "u1",
    "originator_user_id": "u1",
    "robotCode": "sandbox-key",
}
SIGN_IN_PAGE = "/oauth2/auth"
"""A browser's path, which no program calls."""


@settings(
    max_examples=either(40, 1_000), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    st.sampled_from(sorted(DECLARED)),
    st.dictionaries(st.sampled_from(NAMES), json_values(leaves=6), max_size=8),
    st.booleans(),
)
def test_any_request_is_answered(
    endpoint: tuple[str, str], payload: dict[str, Any], fill: bool
) -> None:
    caller = SHARED
    method, path = endpoint
    given = {**GOOD, **payload} if fill else payload
    outcome = caller.outcome(
        method,
        path,
        query={"access_token": caller.token, **{k: str(v) for k, v in given.items()}},
        header_token=caller.token,
        payload=given,
    )
    if path == SIGN_IN_PAGE:
        assert outcome.answer.body.startswith(b"<!doctype html>")
    else:
        assert isinstance(json.loads(outcome.answer.body), dict)


SHARED = Caller()
SHARED.limit(calls="", egress="")


def test_the_month_is_counted_as_the_workers_count_it() -> None:
    known = {(api.method, api.path): api.counted for api in APIS}
    counted = {key: each.counted for key, each in DECLARED.items() if each.access == "token"}
    assert {key: counted[key] for key in known.keys() & counted.keys()} == {
        key: known[key] for key in known.keys() & counted.keys()
    }
