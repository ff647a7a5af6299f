"""What DingTalk answers, in its two dialects, and the refusals that lead to it (API §1, §5.2)."""

import json
from abc import ABC, abstractmethod
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
GATEWAY_CODES = frozenset(str(code) for code in range(90_001, 90_021))
"""Codes of the gateway before the service: errcode 88 around them on topapi paths (API §5.2)."""

MESSAGES = {
    "-1": "系统繁忙",
    "15": "Remote service error",
    "43004": "无效的HTTP HEADER Content-Type",
    "45009": "接口调用超过限制",
    "60011": "没有调用该接口的权限",
    "90002": "您的服务器调用钉钉开放平台当前接口的所有请求都被暂时禁用了",
    "90018": "您的应用调用该接口触发了qps流控, 请求被暂时限制了",
    "90020": "您的企业调用钉钉开放平台接口的次数已超过当月上限",
    THROTTLED_REST: "您的企业应用调用钉钉开放平台当前接口的所有请求都被暂时禁用了",
    "Forbidden.AccessDenied.ApiCountLimitForOrg": "您的企业调用钉钉开放平台接口的次数已超过当月上限",
}

NOT_HERE = (
    *("/v1.0/todo/", "/v1.0/card/", "/v1.0/calendar/", "/v1.0/im/", "/v2.0/", "/attendance/"),
    *(
        "/topapi/role/",
        "/topapi/attendance/",
        "/topapi/im/",
        "/topapi/report/",
        "/topapi/smartwork/",
    ),
)
"""Starts of paths of DingTalk's that the sandbox does not have."""

BAN_PAGE = b"<!DOCTYPE html><html><script>location='/punish?x5secdata=1'</script></html>"
"""To an address that is banned: it names the guard and its verdict (API §6)."""
GATEWAY_PAGE = (
    b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head>"
    b"<body><center><h1>502 Bad Gateway</h1></center></body></html>"
)
"""Of some proxy on the way, which knows nothing of DingTalk."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP. `headers` come on top of, or instead of, the usual ones."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_answer(content: object, status: int = 200) -> Answer:
    """An answer with a JSON body."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Answer(status, text.encode(errors="replace"))


class Refusal(Exception, ABC):
    """A call is not carried out.

    Attributes:
        code: DingTalk's code, as a text.
        verdict: what the audit says of it.
    """

    def __init__(self, code: str, message: str, *, verdict: Verdict = "error") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.verdict: Verdict = verdict

    @abstractmethod
    def answer(self, request_id: str) -> Answer:
        """The refusal as DingTalk words it."""


class OapiRefusal(Refusal):
    """A refusal of the old dialect; `wrapped` puts the code into errcode 88's sub_code."""

    def __init__(
        self,
        code: int | str,
        message: str,
        *,
        wrapped: bool = False,
        verdict: Verdict = "error",
        with_id: bool = True,
    ) -> None:
        super().__init__(str(code), message, verdict=verdict)
        self._with_id = with_id
        self.wrapped = wrapped or not self.code.lstrip("-").isdigit()

    def answer(self, request_id: str) -> Answer:
        """HTTP 200 with an errcode."""
        if not self.wrapped:
            identity = {"request_id": request_id} if self._with_id else {}
            return json_answer({"errcode": int(self.code), "errmsg": self.message} | identity)
        return json_answer(
            {
                "errcode": 88,
                "sub_code": self.code,
                "sub_msg": self.message,
                "errmsg": f"ding talk error[subcode={self.code},submsg={self.message}]",
                "request_id": request_id,
            }
        )


class RestRefusal(Refusal):
    """A refusal of the new dialect."""

    def __init__(
        self, code: str, message: str, *, status: int = 400, verdict: Verdict = "error"
    ) -> None:
        super().__init__(code, message, verdict=verdict)
        self.status = status

    def answer(self, request_id: str) -> Answer:
        """HTTP 4xx or 5xx with a code."""
        content = {"code": self.code, "requestid": request_id, "message": self.message}
        return json_answer(content, self.status)


class Banned(Refusal):
    """The address is banned (API §6); the page comes from in front of both dialects."""

    def __init__(self, shape: Literal["html", "json"]) -> None:
        super().__init__("1111", "egress ban", verdict="throttled")
        self._shape = shape

    def answer(self, request_id: str) -> Answer:
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
    if dialect == "rest":
        return RestRefusal(code, message, status=status, verdict="throttled")
    wrapped = path.startswith("/topapi/") and code in GATEWAY_CODES
    return OapiRefusal(code, message, wrapped=wrapped, verdict="throttled")


def too_many(dialect: Dialect, path: str, breach: Breach, *, at: float, code: str = "") -> Refusal:
    """The answer to a call over a rate; the old dialect says how long it lasts."""
    message = _breach_message(path, breach, at) if dialect == "oapi" else ""
    return throttled(dialect, path, code=code, message=message)


def _api_name(path: str) -> str:
    """What the old gateway calls an API."""
    if not path.startswith("/topapi/"):
        return path
    return "dingtalk.oapi" + path.removeprefix("/topapi").replace("/", ".")


def _breach_message(path: str, breach: Breach, at: float) -> str:
    """Which API, how many, and until when, in Beijing time (API §5.2, §6)."""
    api = _api_name(path)
    end = int(at) + 1 if breach.until <= int(at) + 1 else int(breach.until) + 1
    return (
        f"{MESSAGES[THROTTLED_OAPI]}, apiPath({api}), 从 {clock(at)} 到 {clock(end - 1)} "
        f"请求总次数超过 {breach.rate.limit} 次, 限制将在 {clock(end)} 结束."
    )


def quota_used_up(dialect: Dialect, path: str) -> Refusal:
    """The organisation's month is used up (API §5.3)."""
    if dialect == "rest":
        code = "Forbidden.AccessDenied.ApiCountLimitForOrg"
        return RestRefusal(code, MESSAGES[code], status=403, verdict="quota")
    wrapped = path.startswith("/topapi/")
    return OapiRefusal(90_020, MESSAGES["90020"], wrapped=wrapped, verdict="quota")


def token_missing(dialect: Dialect) -> Refusal:
    """No token came with the call (API §1)."""
    if dialect == "rest":
        code = "AuthenticationFailed.MissingParameter"
        return RestRefusal(code, "缺少参数：x-acs-dingtalk-access-token", verdict="token")
    return OapiRefusal(40_000, "access_token is blank", wrapped=True, verdict="token")


def token_refused(dialect: Dialect, *, expired: bool) -> Refusal:
    """The token is unknown, or was good once (API §1)."""
    if dialect == "rest":
        return RestRefusal("InvalidAuthentication", "不合法的access_token", verdict="token")
    if expired:
        return OapiRefusal(42_001, "access_token已过期", wrapped=True, verdict="token")
    return OapiRefusal(40_014, "不合法的access_token", wrapped=True, verdict="token")


def credentials_refused(dialect: Dialect) -> Refusal:
    """Key and secret are no pair (API §1)."""
    if dialect == "rest":
        code = "invalidClientIdOrSecret"
        return RestRefusal(code, "无效的clientId或者clientSecret")
    return OapiRefusal(40_096, "不合法的appKey或appSecret", with_id=False)


class MethodUnknown(OapiRefusal):
    """A path below ``/topapi`` that is no API (API §5.2, P14)."""

    def answer(self, request_id: str) -> Answer:
        """The text stands beside the code and within `errmsg`."""
        return json_answer(
            {
                "errcode": int(self.code),
                "sub_msg": self.message,
                "errmsg": f"Invalid method[submsg={self.message}]",
                "request_id": request_id,
            }
        )


def path_unknown(dialect: Dialect, path: str) -> Refusal:
    """There is no such API (API §5.2), or none here although DingTalk has it."""
    missing = ""
    if path.startswith(NOT_HERE):
        missing = (
            f"the sandbox does not have this API of DingTalk's; script its answer: POST /_sandbox/faults "
            f'{{"kind": "error", "api": "{path}", "status": 200, "body": {{…}}}}'
        )
    if dialect == "rest":
        code = "InvalidAction.NotFound"
        return RestRefusal(code, missing or "Specified api is not found.", status=404)
    if path.startswith("/topapi/"):
        return MethodUnknown(22, missing or f"不合法ApiName，ApiName = {_api_name(path)}")
    return OapiRefusal(404, missing or "请求的URI地址不存在")


def success(dialect: Dialect, request_id: str, fields: Mapping[str, Any]) -> Answer:
    """Success, with an API's fields."""
    if dialect == "rest":
        return json_answer(fields)
    return json_answer({"errcode": 0, "errmsg": "ok", **fields, "request_id": request_id})
