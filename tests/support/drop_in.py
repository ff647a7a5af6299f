"""Calls as programs make them that call DingTalk, at DingTalk or at what stands for it."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

AGENT = "1000001"
ROBOT = "robot-of-the-group"
CONVERSATION = "/topapi/message/corpconversation"
SEND = f"{CONVERSATION}/asyncsend_v2"
PROGRESS = f"{CONVERSATION}/getsendprogress"
RESULT = f"{CONVERSATION}/getsendresult"
RECALL = f"{CONVERSATION}/recall"
ACCESS_TOKEN = "/v1.0/oauth2/accessToken"
CREATE_TOPAPI = "/topapi/processinstance/create"
INSTANCES = "/v1.0/workflow/processInstances"
TEXT = {"msgtype": "text", "text": {"content": "你好"}}
HEAD = {"bgcolor": "FFBBBBBB", "text": "head", "icon": "?"}
BODY = {"form": [{"key": "天数", "value": 3}], "rich": {"num": 15.6, "unit": "元"}}
WORK = {"agent_id": AGENT, "userid_list": "u1,u2,stranger", "msg": TEXT}
SLOPPY = {"msgtype": "oa", "oa": {"message_url": "https://x.example", "head": HEAD, "body": BODY}}
"""Numbers for texts, and a field that is not known."""
WRONG_MESSAGES = (
    "text",
    {"msgtype": "fax"},
    {"msgtype": "text"},
    {"msgtype": "text", "text": {"content": ""}},
    {"msgtype": "text", "text": {"content": "x" * 5_001}},
    {"msgtype": "link", "link": {"title": "t"}},
    {"msgtype": "voice", "voice": {"media_id": "@x", "duration": "99"}},
    {"msgtype": "action_card", "action_card": {"markdown": "x"}},
)
APPROVAL = {
    "process_code": "PROC-ANY",
    "originator_user_id": "u1",
    "dept_id": -1,
    "form_component_values": [{"name": "field1", "value": "value1"}],
    "approvers": "u2,u3",
}
PURCHASE = {
    "processCode": "PROC-PURCHASE",
    "originatorUserId": "u1",
    "deptId": -1,
    "formComponentValues": [
        {"name": "采购事由", "value": "换新"},
        {"name": "采购类型", "value": "设备"},
        {"name": "负责人", "value": '["u2"]'},
    ],
}
VOLATILE = re.compile(
    r"(access_?token|request_?id|.*_?time|date|task_?id|process_?instance_?id|instanceId|business_?id"
    r"|processQueryKey|media_id|created_at|url|title|activity_?id|.*Url|id)",
    re.IGNORECASE,
)
"""Fields that differ from call to call wherever it is made."""


Ask = Callable[..., tuple[int, dict[str, Any]]]


def asking(url: str) -> Ask:
    """Makes calls at what stands for DingTalk; the status and the content of its answers."""

    def ask(
        method: str,
        path: str,
        *,
        token: str | None = None,
        query: Mapping[str, Any] | None = None,
        body: object = None,
        form: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> tuple[int, dict[str, Any]]:
        parameters, headers, data = dict(query or {}), {}, None
        if token is not None and path.startswith("/v1.0/"):
            headers["x-acs-dingtalk-access-token"] = token
        elif token is not None:
            parameters["access_token"] = token
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(form).encode()
        elif body is not None:
            headers["Content-Type"] = content_type
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
        target = f"{url}{path}?{urlencode(parameters)}" if parameters else url + path
        request = urllib.request.Request(target, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    return ask


def token_of(ask: Ask, key: str, secret: str) -> str:
    status, answer = ask("GET", "/gettoken", query={"appkey": key, "appsecret": secret})
    assert (status, answer["errcode"]) == (200, 0), answer
    return str(answer["access_token"])


def bare(value: Any) -> Any:
    """An answer without what differs from call to call; that it is there stays."""
    if isinstance(value, dict):
        return {
            name: type(each).__name__ if VOLATILE.fullmatch(name) else bare(each)
            for name, each in value.items()
        }
    return [bare(each) for each in value] if isinstance(value, list) else value


class Story:
    """Calls, and what was answered to each."""

    def __init__(self, ask: Ask, key: str, secret: str) -> None:
        self._ask = ask
        self.pair = {"appkey": key, "appsecret": secret}
        self.answers: list[tuple[str, int, Any]] = []
        self.token = ""

    def call(self, method: str, path: str, **how: Any) -> dict[str, Any]:
        status, answer = self._ask(method, path, **how)
        body = how.get("body") or how.get("form")
        self.answers.append((f"{method} {path} {body}", status, bare(answer)))
        return answer

    def post(self, path: str, body: object = None, **how: Any) -> dict[str, Any]:
        """With the token."""
        return self.call("POST", path, **{"token": self.token, "body": body, **how})

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        """With the token."""
        return self.call("GET", path, token=self.token, query=query)

    def run(self) -> list[tuple[str, int, Any]]:
        """Everything."""
        self.tokens()
        self.messages()
        self.approvals()
        self.others()
        self.refusals()
        self.refused_tokens()
        self.refused_forms()
        return self.answers

    def tokens(self) -> None:
        self.token = self.call("GET", "/gettoken", query=self.pair)["access_token"]
        key, secret = self.pair.values()
        self.call("GET", "/gettoken", query={"corpid": key, "corpsecret": secret})
        self.call("POST", ACCESS_TOKEN, body={"appKey": key, "appSecret": secret})
        pair = {"client_id": key, "client_secret": secret, "grant_type": "client_credentials"}
        self.call("POST", "/v1.0/oauth2/sandbox-corp/token", body=pair)

    def messages(self) -> None:
        sent = self.post(SEND, WORK)
        body = {"agent_id": AGENT, "task_id": sent["task_id"]}
        self.post(PROGRESS, body)
        self.post(RESULT, body)
        self.post(RESULT, form=body)
        self.post(RECALL, {"agent_id": AGENT, "msg_task_id": sent["task_id"]})
        self.post(SEND, {**WORK, "msg": SLOPPY})
        form = {"agent_id": AGENT, "dept_id_list": "2", "msg": json.dumps(TEXT)}
        task = self.post(SEND, form=form)["task_id"]
        self.post(RESULT, {"agent_id": AGENT, "task_id": task})
        self.post("/robot/send", {"msgtype": "text", "text": {"content": "x"}}, token=ROBOT)

    def approvals(self) -> None:
        made = self.post(CREATE_TOPAPI, APPROVAL)
        instance = {"process_instance_id": made["process_instance_id"]}
        self.post("/topapi/processinstance/get", instance)
        made = self.post(INSTANCES, PURCHASE)
        self.get(INSTANCES, processInstanceId=made["instanceId"])
        self.get("/v1.0/workflow/forms/schemas/processCodes", processCode="PROC-PURCHASE")
        comment = {"text": "请尽快", "commentUserId": "u3"}
        self.post(f"{INSTANCES}/comments", {"processInstanceId": made["instanceId"], **comment})

    def others(self) -> None:
        self.get("/department/list", fetch_child="True")
        self.get("/user/listbypage", department_id=2, offset=0, size=9)
        self.get("/auth/scopes")
        self.post("/topapi/v2/department/listsub", form={"dept_id": 1})
        person = self.post("/topapi/v2/user/get", {"userid": "u7"})["result"]
        self.post("/topapi/v2/user/getbymobile", {"mobile": person["mobile"]})
        self.post("/topapi/user/count", {"only_active": False})
        message = {"msgKey": "sampleText", "msgParam": '{"content": "hi"}'}
        robot = {"robotCode": self.pair["appkey"], "userIds": ["u1"], **message}
        self.post("/v1.0/robot/oToMessages/batchSend", robot)

    def refused_tokens(self) -> None:
        key = self.pair["appkey"]
        self.call("GET", "/gettoken", query={**self.pair, "appsecret": "wrong"})
        self.call("GET", "/gettoken", query={"appkey": key})
        self.call("GET", "/gettoken", query={"corpid": key})
        self.call("POST", "/robot/send", body=WORK)
        self.call("POST", ACCESS_TOKEN, body={"appKey": key, "appSecret": "wrong"})
        self.call("POST", ACCESS_TOKEN, body={"appKey": key})
        for path in ("/topapi/v2/user/get", INSTANCES):
            self.call("POST", path, token="nonsense", body={"userid": "u1"})
            self.call("POST", path, body={"userid": "u1"})
        self.call("GET", "/department/list")

    def refusals(self) -> None:
        self.post("/topapi/v2/user/get", {"userid": "stranger"})
        self.post("/topapi/v2/user/get", {})
        self.post(SEND, {"agent_id": AGENT, "msg": TEXT})
        self.post(SEND, {"userid_list": "u1"})
        self.post(SEND, {**WORK, "agent_id": "7"})
        for message in WRONG_MESSAGES:
            self.post(SEND, {**WORK, "msg": message})
        self.post(SEND, {**WORK, "userid_list": ",".join(f"u{n}" for n in range(1, 102))})
        self.post(RESULT, {"agent_id": AGENT, "task_id": 12})
        self.post(CREATE_TOPAPI, {**APPROVAL, "process_code": "PROC-NONE"})
        self.post(INSTANCES, {**PURCHASE, "processCode": "PROC-NONE"})
        self.post(INSTANCES, {**PURCHASE, "formComponentValues": [{"name": "无", "value": "x"}]})
        self.post("/topapi/no/such/api", {})
        self.get("/no/such/api")
        self.get("/v1.0/no/such/api")

    def refused_forms(self) -> None:
        self.post("/topapi/v2/user/get", b"{")
        self.post("/topapi/v2/user/get", b"{}", content_type="text/plain")
        self.post(INSTANCES, b"{}", content_type="text/plain")
        self.post("/robot/send", {"msgtype": "text", "text": {"content": "x"}}, token="none")
        self.post("/robot/send", {"msgtype": "nonsense"}, token=ROBOT)


def without_words(content: Any) -> Any:
    """A refusal by its codes: its words may say more at the door."""
    if isinstance(content, dict) and (content.get("errcode", 0) != 0 or "code" in content):
        return {name: content[name] for name in content if name in {"errcode", "sub_code", "code"}}
    return content
