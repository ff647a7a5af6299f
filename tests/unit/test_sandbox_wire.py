"""Behaviour that SDKs and DingTalk's own samples rely on (API §11.3, §11.4, §11.5, §11.11)."""

import json
from typing import Any

import pytest

from dingrelay_sandbox.answers import Answer
from dingrelay_sandbox.apps import App
from dingrelay_sandbox.bodies import FORM, Upload, passage, read_body
from dingrelay_sandbox.robots import FIRST_GROUP, Robot
from unit.sandbox_caller import SEND, Caller

BATCH = "/v1.0/robot/oToMessages/batchSend"
GROUPS = "/v1.0/robot/groupMessages"
ROBOT_MESSAGE = {"robotCode": "sandbox-key", "msgKey": "sampleText", "msgParam": '{"content":"x"}'}


@pytest.fixture
def caller() -> Caller:
    caller = Caller()
    caller.limit(calls="", egress="")
    return caller


def post_form(caller: Caller, path: str, **fields: str) -> dict[str, Any]:
    return caller.post(path, dict(fields), content_type=FORM).body


def test_topapi_takes_a_form_whose_structures_are_json(caller: Caller) -> None:
    message = json.dumps({"msgtype": "text", "text": {"content": "x"}})
    sent = post_form(caller, SEND, agent_id="1000001", userid_list="u1", msg=message)
    assert (sent["errcode"], caller.reasons("u1")) == (0, [""])
    assert post_form(caller, "/topapi/v2/department/listsub", dept_id="1")["result"]
    form = json.dumps([{"name": "a", "value": "1"}])
    request = {"process_code": "PROC-ANY", "originator_user_id": "u1", "dept_id": "-1"}
    made = post_form(
        caller, "/topapi/processinstance/create", form_component_values=form, **request
    )
    assert made["process_instance_id"] in caller.state.approvals.instances


def test_a_list_in_a_form_may_be_json(caller: Caller) -> None:
    message = json.dumps({"msgtype": "text", "text": {"content": "x"}})
    listed = {"userid_list": '["u1","u2"]', "dept_id_list": "[]"}
    post_form(caller, SEND, agent_id="1000001", msg=message, **listed)
    assert (caller.reasons("u1"), caller.reasons("u2")) == ([""], [""])


def test_the_new_host_takes_no_form(caller: Caller) -> None:
    assert caller.post(BATCH, {"robotCode": "x"}, content_type=FORM).code == "Missingbody"


@pytest.mark.parametrize(("text", "deep"), [("true", 1), ("True", 1), ("1", 1), ("False", 0)])
def test_query_booleans_have_spellings(caller: Caller, text: str, deep: int) -> None:
    children = caller.get("/department/list", id="1", fetch_child=text).body["department"]
    assert len(children) == 5
    caller.state.organisation.put_department(50, {"parent_id": 5})
    again = caller.get("/department/list", id="1", fetch_child=text).body["department"]
    assert len(again) - len(children) == deep
    assert caller.get("/department/list", fetch_child="perhaps").code == "400002"


def test_a_list_of_departments_begins_with_the_root(caller: Caller) -> None:
    departments = caller.get("/department/list").body["department"]
    assert [each["id"] for each in departments] == [1, 2, 3, 4, 5]
    assert "parentid" not in departments[0]
    assert [each["id"] for each in caller.get("/department/list", id="2").body["department"]] == []


def test_a_school_has_departments_with_negative_ids(caller: Caller) -> None:
    organisation = caller.state.organisation
    organisation.put_department(-7, {"name": "家校通讯录"})
    organisation.put_department(-70, {"parent_id": -7, "name": "一年级"})
    organisation.put_user("teacher", {"dept_id_list": [-70]})
    below = caller.post("/topapi/v2/department/listsub", {"dept_id": -7}).body["result"]
    assert [each["dept_id"] for each in below] == [-70]
    page = {"dept_id": -70, "cursor": 0, "size": 10}
    listed = caller.post("/topapi/v2/user/list", page).body["result"]["list"]
    assert [each["userid"] for each in listed] == ["teacher"]
    caller.send("x", dept_id_list="-7")
    assert caller.reasons("teacher") == [""]


def test_a_person_is_found_by_mobile_and_by_unionid(caller: Caller) -> None:
    organisation = caller.state.organisation
    person = organisation.fields(organisation.people["u3"])
    mobile, union = {"mobile": person["mobile"]}, {"unionid": person["unionid"]}
    assert caller.post("/topapi/v2/user/getbymobile", mobile).body["result"]["userid"] == "u3"
    assert caller.post("/topapi/user/getbyunionid", union).body["result"]["userid"] == "u3"
    assert caller.get("/user/get_by_mobile", **mobile).body["userid"] == "u3"
    assert caller.get("/user/getUseridByUnionid", **union).body["userid"] == "u3"
    organisation.put_user("u4", {"mobile": "13900000000"})
    found = caller.post("/topapi/v2/user/getbymobile", {"mobile": "13900000000"})
    assert found.body["result"]["userid"] == "u4"
    organisation.delete_user("u4")
    assert caller.post("/topapi/v2/user/getbymobile", {"mobile": "13900000000"}).code == "60121"


def test_nobody_is_found_outside_the_scope(caller: Caller) -> None:
    caller.state.apps["narrow"] = App(
        app_key="narrow", app_secret="s", departments=(), users=("u2",)
    )
    caller.log_in("narrow", "s")
    organisation = caller.state.organisation
    mobiles = [organisation.fields(organisation.people[each])["mobile"] for each in ("u2", "u3")]
    codes = [caller.post("/topapi/v2/user/getbymobile", {"mobile": each}).code for each in mobiles]
    assert codes == ["0", "50002"]


def test_people_are_counted(caller: Caller) -> None:
    caller.state.organisation.put_user("u2", {"active": False})
    active = caller.post("/topapi/user/count", {"only_active": True}).body["result"]["count"]
    assert caller.post("/topapi/user/count", {"only_active": False}).body["result"]["count"] == 20
    assert active < 20
    assert caller.get("/user/get_org_user_count", onlyActive="1").body["count"] == active


def test_the_first_generation_has_one_person_and_one_department(caller: Caller) -> None:
    person = caller.get("/user/get", userid="u1").body
    assert (person["userid"], person["isAdmin"], person["errcode"]) == ("u1", True, 0)
    assert person["isLeaderInDepts"] == "{1:true}"
    assert caller.get("/user/get", userid="stranger").code == "60121"
    place = caller.get("/department/get", id="2").body
    assert (place["id"], place["parentid"]) == (2, 1)
    assert caller.get("/department/list_ids", id="1").body["sub_dept_id_list"] == [2, 3, 4, 5]


def test_the_first_generation_lists_members_with_and_without_pages(caller: Caller) -> None:
    members = caller.state.organisation.members(2)
    everybody = caller.get("/user/simplelist", department_id="2").body
    assert [each["userid"] for each in everybody["userlist"]] == members
    assert everybody["hasMore"] is False
    page = caller.get("/user/list", department_id="2", offset="0", size="1").body
    assert [each["userid"] for each in page["userlist"]] == members[:1]
    assert page["hasMore"] is (len(members) > 1)
    assert caller.get("/user/listbypage", department_id="2").code == "40035"


def test_a_multipart_body_has_fields_and_a_file() -> None:
    lines = [
        "--edge",
        'Content-Disposition: form-data; name="type"',
        "",
        "image",
        "--edge",
        'Content-Disposition: form-data; name="media"; filename="a.png"',
        "Content-Type: image/png",
        "",
        "\x89PNG",
        "--edge--",
        "",
    ]
    content = "\r\n".join(lines).encode("latin-1")
    payload, upload = read_body(
        content, "multipart/form-data", "multipart/form-data; boundary=edge"
    )
    assert (payload, upload) == ({"type": "image"}, Upload("media", "a.png", 4))


@pytest.mark.parametrize("content", [b"", b"--", b"\xff\xfe", b"--edge\r\n\r\n\r\n--edge--"])
def test_a_broken_multipart_body_is_no_file(content: bytes) -> None:
    for whole in (
        "multipart/form-data; boundary=edge",
        "multipart/form-data",
        "multipart/form-data; \r",
    ):
        _, upload = read_body(content, "multipart/form-data", whole)
        assert upload is None


@pytest.mark.parametrize(
    ("kind", "upload", "code"),
    [
        ("image", Upload("media", "a.png", 10), "0"),
        ("file", Upload("media", "报告.PDF", 10), "0"),
        ("music", Upload("media", "a.png", 10), "40004"),
        ("image", None, "41005"),
        ("image", Upload("other", "a.png", 10), "41005"),
        ("image", Upload("media", "a.exe", 10), "40005"),
        ("voice", Upload("media", "a.mp3", 3 * 1024 * 1024), "40006"),
    ],
)
def test_an_upload(caller: Caller, kind: str, upload: Upload | None, code: str) -> None:
    query = {"access_token": caller.token, "type": kind}
    outcome = caller.outcome(
        "POST", "/media/upload", query=query, content_type="multipart/form-data", upload=upload
    )
    answer = json.loads(outcome.answer.body)
    assert str(answer["errcode"]) == code
    assert [each["kind"] for each in caller.state.media] == ([kind] if code == "0" else [])


def test_an_upload_is_a_form(caller: Caller) -> None:
    assert caller.post("/media/upload", {"type": "image"}).code == "43008"


def test_a_call_through_the_gateway_is_a_call_of_its_api() -> None:
    query = {"method": "dingtalk.oapi.user.count", "session": "T", "v": "2.0", "format": "json"}
    through = passage(query, {"only_active": "true"})
    assert (through.path, through.token) == ("/topapi/user/count", "T")
    assert through.payload == {"only_active": "true"}
    answer = json.loads(through.envelope(Answer(200, b'{"errcode":0,"result":{"count":1}}')).body)
    assert answer == {"dingtalk_oapi_user_count_response": {"errcode": 0, "result": {"count": 1}}}
    refused = Answer(200, b'{"errcode":88,"errmsg":"no","sub_code":"40014","request_id":"r"}')
    assert json.loads(through.envelope(refused).body) == {
        "error_response": {"code": 88, "msg": "no", "sub_code": "40014", "request_id": "r"}
    }
    page = Answer(502, b"<html>", "text/html")
    assert through.envelope(page) == page


def test_the_oldest_methods_wrap_their_result_once_more() -> None:
    through = passage({"method": "dingtalk.smartwork.bpms.processinstance.get"}, None)
    assert through.path == "/topapi/processinstance/get"
    inner = Answer(200, b'{"errcode":0,"errmsg":"ok","process_instance":{},"request_id":"r"}')
    answer = json.loads(through.envelope(inner).body)
    assert answer["dingtalk_smartwork_bpms_processinstance_get_response"]["result"] == {
        "ding_open_errcode": 0,
        "error_msg": "ok",
        "success": True,
        "process_instance": {},
    }


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"msgParam": "{'content'"}, "invalidParameter.msgParam.invalid"),
        ({"robotCode": ""}, "invalidParameter.robotCode.empty"),
        ({"robotCode": "other"}, "invalidParameter.robotCode.notExsit"),
        ({"userIds": []}, "invalidParameter.userIds.empty"),
        ({"userIds": ["u1"] * 21}, "invalidParameter.userIds.overMax"),
        ({"msgKey": "sampleNothing"}, "invalidParameter.msgKey.invalid"),
        ({"msgParam": "[]"}, "invalidParameter.msgParam.invalid"),
        ({"msgParam": {"content": "x"}}, "invalidParameter.msgParam.invalid"),
    ],
)
def test_a_wrong_robot_call_has_a_code(caller: Caller, fields: dict[str, Any], code: str) -> None:
    reply = caller.post(BATCH, {**ROBOT_MESSAGE, "userIds": ["u1"], **fields})
    assert (reply.status, reply.code) == (400, code)
    assert caller.reasons("u1") == []


def test_a_robots_message_is_read_about_and_recalled(caller: Caller) -> None:
    key = caller.post(BATCH, {**ROBOT_MESSAGE, "userIds": ["u1"]}).body["processQueryKey"]
    path = "/v1.0/robot/oToMessages/readStatus"
    answer = caller.get(path, robotCode="sandbox-key", processQueryKey=key).body
    assert answer["sendStatus"] == "SUCCESS"
    assert [(each["userId"], each["readStatus"]) for each in answer["messageReadInfoList"]] == [
        ("u1", "UNREAD")
    ]
    recall = {"robotCode": "sandbox-key", "processQueryKeys": [key, "query5"]}
    done = caller.post("/v1.0/robot/otoMessages/batchRecall", recall).body
    assert (done["successResult"], list(done["failedResult"])) == ([key], ["query5"])
    assert caller.get(path, robotCode="sandbox-key", processQueryKey=key).body["sendStatus"] == (
        "RECALLED"
    )


def test_a_read_state_comes_late(caller: Caller) -> None:
    caller.limit(read_lag_seconds=10)
    key = caller.post(BATCH, {**ROBOT_MESSAGE, "userIds": ["u1"]}).body["processQueryKey"]
    answers: list[str] = []
    for seconds in (0, 6, 5, 86_400):
        caller.now += seconds
        caller.log_in()
        reply = caller.get(
            "/v1.0/robot/oToMessages/readStatus", robotCode="sandbox-key", processQueryKey=key
        )
        answers.append(reply.body.get("sendStatus") or reply.code)
    gone = "processQueryKey.expireTime"
    assert answers == [gone, "PROCESSING", "SUCCESS", gone]


def test_a_robot_posts_in_a_group(caller: Caller) -> None:
    message = {**ROBOT_MESSAGE, "openConversationId": FIRST_GROUP}
    assert caller.post(f"{GROUPS}/send", {**message, "openConversationId": "x"}).status == 400
    long = {**message, "msgParam": json.dumps({"content": "x" * 15_000})}
    assert caller.post(f"{GROUPS}/send", long).code == "invalidParameter.msgParam.invalid"
    key = caller.post(f"{GROUPS}/send", message).body["processQueryKey"]
    (posted,) = caller.state.robots.posts
    assert (posted["group"], posted["message"]["msgKey"]) == (FIRST_GROUP, "sampleText")
    request = {"robotCode": "sandbox-key", "openConversationId": FIRST_GROUP}
    assert caller.post(f"{GROUPS}/query", {**request, "processQueryKey": key}).body[
        "sendStatus"
    ] == ("SUCCESS")
    done = caller.post(f"{GROUPS}/recall", {**request, "processQueryKeys": [key, "no"]}).body
    assert (done["successResult"], list(done["failedResult"])) == ([key], ["no"])
    assert caller.post(f"{GROUPS}/query", {**request, "processQueryKey": key}).body[
        "sendStatus"
    ] == ("RECALLED")


def webhook(caller: Caller, token: str, message: dict[str, Any]) -> Any:
    outcome = caller.outcome("POST", "/robot/send", query={"access_token": token}, payload=message)
    return json.loads(outcome.answer.body)["errcode"]


def test_the_months_messages_run_out(caller: Caller) -> None:
    text = {"msgtype": "text", "text": {"content": "x"}}
    caller.state.robots.robots["k"] = Robot(token="k", month=1)
    assert [webhook(caller, "k", text) for _ in range(2)] == [0, 90_030]
    caller.limit(pushes=2)
    assert [webhook(caller, "sandbox-robot", text) for _ in range(2)] == [0, 90_030]
    assert caller.state.limiter.used == {}


def test_a_webhook_knows_its_kinds_and_keywords(caller: Caller) -> None:
    caller.state.robots.robots["k"] = Robot(token="k", keywords=("告警",))
    image = {"msgtype": "image", "image": {"media_id": "@x"}}
    assert webhook(caller, "sandbox-robot", image) == 400_105
    text = {"msgtype": "text", "text": {"content": "一切正常"}}
    assert webhook(caller, "k", text) == 310_000
    caller.limit(robot_old_texts=True)
    outcome = caller.outcome("POST", "/robot/send", query={"access_token": "k"}, payload=text)
    assert json.loads(outcome.answer.body)["errmsg"] == "keywords not in content"
    assert webhook(caller, "k", {"msgtype": "text", "text": {"content": "告警: 磁盘"}}) == 0


def test_an_app_shows_who_may_see_it(caller: Caller) -> None:
    path = "/v1.0/microApp/apps/{}/scopes"
    everybody = caller.get(path.format("1000001")).body["result"]
    assert everybody == {"deptIds": [], "userIds": [], "roleIds": [], "onlyAdminVisible": False}
    narrow = App(app_key="n", app_secret="s", agent_id="7", departments=(2,), users=("u1",))
    caller.state.apps["n"] = narrow
    caller.log_in("n", "s")
    answer = caller.get(path.format("7")).body["result"]
    assert (answer["deptIds"], answer["userIds"]) == ([2], ["u1"])
    caller.state.apps["n"] = narrow.model_copy(update={"visible_users": ("u2",)})
    answer = caller.get(path.format("7")).body["result"]
    assert (answer["deptIds"], answer["userIds"]) == ([], ["u2"])
    assert caller.get(path.format("8")).status == 400
    assert caller.get("/v1.0/microApp/apps//scopes").status == 404
