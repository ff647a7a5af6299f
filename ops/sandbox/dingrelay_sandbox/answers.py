"""Answers of DingTalk in its two dialects, and the refusals that lead to them (API §1, §5.2)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dingrelay_sandbox.clock import clock
from dingrelay_sandbox.limits import Breach

Dialect = Literal["oapi", "rest"]
"""oapi: HTTP 200 with errcode. rest: 4xx and 5xx with code (API §0)."""

Verdict = Literal["ok", "throttled", "error", "token", "quota", "fault"]

THROTTLED_OAPI = "90018"
THROTTLED_REST = "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
QUOTA_REST = "Forbidden.AccessDenied.ApiCountLimitForOrg"
GATEWAY_CODES = frozenset(str(code) for code in range(90_001, 90_021))
"""Codes of the gateway before the service: errcode 88 around them on topapi paths (API §5.2)."""

_QUOTA = "您的企业调用钉钉开放平台接口的次数已超过当月上限"
MESSAGES = {
    "-1": "系统繁忙",
    "15": "Remote service error",
    "43004": "无效的HTTP HEADER Content-Type",
    "45009": "接口调用超过限制",
    "60011": "没有调用该接口的权限",
    "90002": "您的服务器调用钉钉开放平台当前接口的所有请求都被暂时禁用了",
    "90018": "您的应用调用该接口触发了qps流控, 请求被暂时限制了",
    "90020": _QUOTA,
    QUOTA_REST: _QUOTA,
    THROTTLED_REST: "您的企业应用调用钉钉开放平台当前接口的所有请求都被暂时禁用了",
}

BAN_PAGE = b"<!DOCTYPE html><html><script>location='/punish?x5secdata=1'</script></html>"
"""Page for an address that is banned: it names the guard and its verdict (API §6)."""
GATEWAY_PAGE = (
    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
"""Page of a proxy in between, which does not know DingTalk."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP. `headers` come on top of, or instead of, the usual ones."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(content: object, status: int = 200) -> Answer:
    """An answer with a JSON body."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Answer(status, text.encode(errors="replace"))


class Refusal(Exception):
    """A call is not carried out.

    Args:
        code: DingTalk's code; that of the old dialect is a number.
        message: what it says of it.
        status: of the answer in the new dialect.
        wrapped: whether the old dialect puts the code into errcode 88's sub_code.
        verdict: what the audit says of it.
        with_id: whether the old dialect names the call.
    """

    def __init__(
        self,
        code: int | str,
        message: str,
        *,
        status: int = 400,
        wrapped: bool = False,
        verdict: Verdict = "error",
        with_id: bool = True,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = str(code), message
        self.verdict: Verdict = verdict
        self._status, self._wrapped, self._with_id = status, wrapped, with_id

    def answer(self, dialect: Dialect, request_id: str) -> Answer:
        """The refusal as DingTalk words it: HTTP 200 with an errcode, or 4xx or 5xx with a code."""
        if dialect == "rest":
            fields = {"code": self.code, "requestid": request_id, "message": self.message}
            return json_answer(fields, self._status)
        if self._wrapped or not self.code.lstrip("-").isdigit():
            content: dict[str, Any] = {
                "errcode": 88,
                "sub_code": self.code,
                "sub_msg": self.message,
                "errmsg": f"ding talk error[subcode={self.code},submsg={self.message}]",
            }
        else:
            content = {"errcode": int(self.code), "errmsg": self.message}
        return json_answer(content | ({"request_id": request_id} if self._with_id else {}))


class Banned(Refusal):
    """The address is banned (API §6); the page comes from in front of both dialects."""

    def __init__(self, shape: Literal["html", "json"]) -> None:
        super().__init__("1111", "egress ban", verdict="throttled")
        self._shape = shape

    def answer(self, dialect: Dialect, request_id: str) -> Answer:
        """An HTML page, or JSON of a shape that is in neither dialect."""
        if self._shape == "html":
            return Answer(403, BAN_PAGE, "text/html")
        return json_answer(
            {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": request_id}
        )


def throttled(
    dialect: Dialect, path: str, *, code: str = "", message: str = "", status: int = 403
) -> Refusal:
    """The answer to a call too many; without `code` the dialect's own."""
    code = code or (THROTTLED_OAPI if dialect == "oapi" else THROTTLED_REST)
    message = message or MESSAGES.get(code, "请求过于频繁, 触发流控")
    wrapped = path.startswith("/topapi/") and code in GATEWAY_CODES
    return Refusal(code, message, status=status, wrapped=wrapped, verdict="throttled")


def too_many(dialect: Dialect, path: str, breach: Breach, *, at: float, code: str = "") -> Refusal:
    """The answer to a call over a rate; the old dialect says how long it lasts."""
    message = _breach_message(path, breach, at) if dialect == "oapi" else ""
    return throttled(dialect, path, code=code, message=message)


def _api_name(path: str) -> str:
    """The old gateway's name of an API."""
    if not path.startswith("/topapi/"):
        return path
    return "dingtalk.oapi" + path.removeprefix("/topapi").replace("/", ".")


def _breach_message(path: str, breach: Breach, at: float) -> str:
    """API, limit and end of a breach, in Beijing time (API §5.2, §6)."""
    api = _api_name(path)
    end = int(at) + 1 if breach.until <= int(at) + 1 else int(breach.until) + 1
    return (
        f"{MESSAGES[THROTTLED_OAPI]}, apiPath({api}), 从 {clock(at)} 到 {clock(end - 1)} "
        f"请求总次数超过 {breach.rate.limit} 次, 限制将在 {clock(end)} 结束."
    )


_WRONG = "processInstanceInvalidParameter"
REFUSALS = {
    "missing": ("40035 缺少参数 ", "invalidParameter 缺少参数："),
    "invalid": ("400002 参数错误 ", "invalidParameter 参数错误："),
    "content type": (
        "43004 无效的HTTP HEADER Content-Type",
        "Missingbody body is mandatory for this action.",
    ),
    "body": ("43009 post body必须是json格式", "invalidParameter 请求体不是JSON对象"),
    "quota": (f"90020 {_QUOTA}", f"{QUOTA_REST} {_QUOTA}"),
    "no token": (
        "40000 access_token is blank",
        "AuthenticationFailed.MissingParameter 缺少参数：x-acs-dingtalk-access-token",
    ),
    "token": ("40014 不合法的access_token", "InvalidAuthentication 不合法的access_token"),
    "old token": ("42001 access_token已过期", "InvalidAuthentication 不合法的access_token"),
    "secret": (
        "40096 不合法的appKey或appSecret",
        "invalidClientIdOrSecret 无效的clientId或者clientSecret",
    ),
    "agent": ("40056 不合法的agentid", "invalidAgentId 无效的agentId"),
    "user": ("60121 找不到该用户", "userNotExist 用户不存在"),
    "template": ("820001 不合法的process_code", "processCodeError 审批模板不存在或已被删除"),
    "originator": ("60121 找不到该用户", f"{_WRONG} 发起人不存在"),
    "department": ("60003 部门不存在", f"{_WRONG} 部门不存在"),
    "outside": ("400002 发起人不在该部门", f"{_WRONG} 发起人不在该部门"),
    "form": ("810003 表单格式错误，失败控件：", "formConverterError 表单数据校验失败，失败控件："),
    "people": ("400002 审批人或抄送人参数错误", f"{_WRONG} 审批人或抄送人不存在"),
    "window": ("400002 查询条件超出限制", "invalidParameter 查询条件超出限制"),
    "instance": ("820006 审批实例不存在", "processInstanceNotExist 审批实例不存在"),
    "acted on": ("820006 审批实例不存在", "aflowProcessInstNotExist 审批实例不存在"),
    "result": (
        "400002 参数错误 result",
        "invalidInstanceExecuteResult 审批操作取值必填 且值必须为agree或refuse",
    ),
    "task": ("400002 参数错误 task_id", f"{_WRONG} 任务不属于该流程实例"),
    "decided": ("820005 审批任务已处理", "aflowProcessInstStatusException 审批单状态异常"),
    "decider": ("400002 参数错误 actioner_userid", f"{_WRONG} 不是该审批任务的审批人"),
    "withdrawal": ("820005 ", "aflowProcessInstStatusException "),
    "not revocable": (
        "820008 审批系统错误, 您没有任务处理的权限",
        "internalError 您没有任务处理的权限",
    ),
}
"""Reason of a refusal → code and text in each dialect."""


def refused(dialect: Dialect, what: str, detail: str = "", **how: Any) -> Refusal:
    """The refusal of a dialect for what both have; see `Refusal`."""
    code, _, message = REFUSALS[what][dialect == "rest"].partition(" ")
    return Refusal(code, message + detail, **how)


def quota_used_up(dialect: Dialect, path: str) -> Refusal:
    """The organisation's month is used up (API §5.3)."""
    wrapped = path.startswith("/topapi/")
    return refused(dialect, "quota", status=403, wrapped=wrapped, verdict="quota")


def token_refused(dialect: Dialect, state: str) -> Refusal:
    """The token is missing, unknown, or was good once (API §1)."""
    what = {"": "no token", "expired": "old token"}.get(state, "token")
    return refused(dialect, what, wrapped=True, verdict="token")


def credentials_refused(dialect: Dialect) -> Refusal:
    """Key and secret are no pair (API §1)."""
    return refused(dialect, "secret", with_id=False)


class MethodUnknown(Refusal):
    """A path below ``/topapi`` that is no API (API §5.2, P14)."""

    def answer(self, dialect: Dialect, request_id: str) -> Answer:
        """The text stands beside the code and within `errmsg`."""
        return json_answer(
            {
                "errcode": int(self.code),
                "sub_msg": self.message,
                "errmsg": f"Invalid method[submsg={self.message}]",
                "request_id": request_id,
            }
        )


def path_unknown(dialect: Dialect, method: str, path: str) -> Refusal:
    """The sandbox does not have this API; the answer has the shape of DingTalk's for an unknown path (API §5.2)."""
    message = (
        f"the sandbox does not have {method} {path}, which says nothing about DingTalk; script its answer: "
        f'POST /_sandbox/faults {{"kind": "error", "api": {json.dumps(path)}, "status": 200, "body": {{…}}}}'
    )
    if dialect == "rest":
        return Refusal("InvalidAction.NotFound", message, status=404)
    if path.startswith("/topapi/"):
        return MethodUnknown(22, message)
    return Refusal(404, message, with_id=False)


def success(dialect: Dialect, request_id: str, fields: Mapping[str, Any]) -> Answer:
    """Success, with an API's fields."""
    if dialect == "rest":
        return json_answer(fields)
    return json_answer({"errcode": 0, "errmsg": "ok", **fields, "request_id": request_id})
