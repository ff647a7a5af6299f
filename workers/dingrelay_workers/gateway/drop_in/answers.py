"""DingTalk's words in its two dialects, for what the door has to answer by itself (API §1, §5.2)."""

import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from aiohttp import web

from dingrelay_tasks.api_call import is_rest
from dingrelay_workers.http.problems import RETRY_AFTER_SECONDS

Dialect = Literal["oapi", "rest"]
"""oapi: HTTP 200 with errcode. rest: 4xx and 5xx with code (API §0)."""

REQUEST_ID_HEADER = "x-acs-dingtalk-request-id"
"""On each answer of the new dialect (API §11.3)."""

Wrapped = Literal["always", "topapi", "never"]
"""Cases in which DingTalk's gateway wraps a code into errcode 88 (API §5.2)."""


@dataclass(frozen=True, slots=True)
class RefusalTexts:
    """One refusal in both dialects.

    Attributes:
        errcode: of the old one.
        errmsg: of the old one.
        status: of HTTP, in the new one.
        code: of the new one.
        message: of the new one; that of the old one if empty.
        wrapped: where `errcode` is the sub_code of 88.
        sub_code: of the old one, where that is a text.
        numbered: whether the old one names the call.
    """

    errcode: int
    errmsg: str
    status: int
    code: str
    message: str = ""
    wrapped: Wrapped = "never"
    sub_code: str = ""
    numbered: bool = True


_DENIED = "Forbidden.AccessDenied"
TOKEN_MISSING = RefusalTexts(
    40_000,
    "access_token is blank",
    400,
    "AuthenticationFailed.MissingParameter",
    "缺少参数：x-acs-dingtalk-access-token",
    "always",
)
TOKEN_INVALID = RefusalTexts(
    40_014, "不合法的access_token", 400, "InvalidAuthentication", wrapped="always"
)
CREDENTIALS = RefusalTexts(
    40_096,
    "不合法的appKey或appSecret",
    400,
    "invalidClientIdOrSecret",
    "无效的clientId或者clientSecret",
    numbered=False,
)
FORBIDDEN = RefusalTexts(
    60_011,
    "没有调用该接口的权限",
    403,
    f"{_DENIED}.AccessTokenPermissionDenied",
    wrapped="always",
)
THROTTLED = RefusalTexts(
    90_018,
    "您的应用调用该接口触发了qps流控, 请求被暂时限制了",
    403,
    f"{_DENIED}.QpsLimitForAppkeyAndApi",
    "您的企业应用调用钉钉开放平台当前接口的所有请求都被暂时禁用了",
    "topapi",
)
QUOTA = RefusalTexts(
    90_020,
    "您的企业调用钉钉开放平台接口的次数已超过当月上限",
    403,
    f"{_DENIED}.ApiCountLimitForOrg",
    wrapped="topapi",
)
ROBOT_THROTTLED = RefusalTexts(410_100, "发送速度太快而限流", 403, "send.too.fast")
ROBOT_UNKNOWN = RefusalTexts(300_005, "token is not exist", 400, "robot.oto.notExist")
SESSION_UNKNOWN = RefusalTexts(300_001, "session 不存在", 400, "session.notExisted")
TOO_LONG = RefusalTexts(460_101, "message too long, exceed 20000 bytes", 400, "invalidParameter")
BUSY = RefusalTexts(-1, "系统繁忙", 503, "serviceBusy")
"""It is not known yet how the call ends: the same change again meets the same job."""
STREAM = RefusalTexts(
    400_002,
    "Stream connections are DingTalk's own: the door carries no WebSocket",
    400,
    "unsupportedOperation",
    "Stream is not behind this door, which carries no WebSocket: connect to https://api.dingtalk.com with"
    " the app's own key and secret, or let `dingrelay events` receive the events",
)
POST_ONLY = RefusalTexts(43_002, "需要POST请求", 405, "invalidParameter")
UNREADABLE = RefusalTexts(400_002, "参数错误: 请求无法读取", 400, "invalidParameter")
BODY_TOO_LARGE = RefusalTexts(400_002, "参数错误: 请求体过大", 413, "invalidParameter.tooLarge")
BODY_LATE = RefusalTexts(-1, "系统繁忙: 请求体未按时到达", 408, "requestTimeout")
AGENT = RefusalTexts(40_056, "不合法的agentid", 400, "invalidAgentId", "无效的agentId")
NO_API = RefusalTexts(
    404,
    "请求的URI地址不存在",
    404,
    "InvalidAction.NotFound",
    "Specified api is not found.",
    numbered=False,
)
NO_METHOD = RefusalTexts(22, "不合法ApiName", 404, NO_API.code, NO_API.message)
CONTENT_TYPE = RefusalTexts(
    43_004,
    "无效的HTTP HEADER Content-Type",
    400,
    "Missingbody",
    "body is mandatory for this action.",
)
NO_JSON = RefusalTexts(
    43_009, "post body必须是json格式", 400, "invalidParameter", "请求体不是JSON对象"
)
NO_MULTIPART = RefusalTexts(43_008, "需要multipart类型", 400, "invalidParameter")
MESSAGE_TYPE = RefusalTexts(40_008, "不合法的消息类型", 400, "invalidParameter")
FILE_TOO_LARGE = RefusalTexts(40_006, "不合法的文件大小", 400, "invalidParameter")
NOT_FOUND = RefusalTexts(60_121, "找不到该用户", 400, "invalidParameter")
TEMPLATE = RefusalTexts(820_001, "不合法的process_code", 400, "processCodeError")
FORM = RefusalTexts(810_003, "表单格式错误", 400, "formConverterError")
PARAMETER = RefusalTexts(400_002, "参数错误", 400, "invalidParameter")


def missing(name: str) -> RefusalTexts:
    """A parameter is not there."""
    return RefusalTexts(40_035, f"缺少参数 {name}", 400, "invalidParameter", f"缺少参数：{name}")


def invalid(name: str, problem: str = "") -> RefusalTexts:
    """A parameter makes no sense."""
    tail = f"{name}: {problem}" if problem else name
    return RefusalTexts(400_002, f"参数错误 {tail}", 400, "invalidParameter", f"参数错误：{tail}")


def ambiguous(job_id: str) -> RefusalTexts:
    """The answer of a call was lost, so it may have been carried out: DingTalk's own form of that (API §12.15)."""
    message = f"远程服务调用超时, 可能已经执行; dingrelay job resolve {job_id}"
    return RefusalTexts(
        15, message, 504, "service.timeout", sub_code="isp.top-remote-connection-timeout"
    )


def cancelled(job_id: str) -> RefusalTexts:
    """A person does not want the call to be made."""
    return RefusalTexts(400_002, f"参数错误: 任务 {job_id} 已被取消", 400, "invalidParameter")


def no_such_api(path: str) -> RefusalTexts:
    """There is nothing at this path, or nothing for a job to call."""
    return NO_METHOD if path.startswith("/topapi/") else NO_API


class Refusal(Exception):
    """A call is not carried out, or it is not known yet whether it was."""

    def __init__(self, words: RefusalTexts) -> None:
        super().__init__(f"{words.errcode} {words.code}")
        self.words = words


@dataclass(frozen=True, slots=True)
class DoorAnswer:
    """An answer: its content, and its status in HTTP."""

    content: Mapping[str, Any]
    status: int = 200

    def response(self, dialect: Dialect) -> web.Response:
        """The same over HTTP."""
        text = json.dumps(self.content, ensure_ascii=False, separators=(",", ":"))
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if dialect == "rest":
            request_id = self.content.get("requestid")
            headers[REQUEST_ID_HEADER] = (
                str(request_id) if _plain(request_id) else new_request_id("rest")
            )
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        body = text.encode("utf-8", "backslashreplace")
        return web.Response(status=self.status, body=body, headers=headers)


def _plain(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and len(value) < 100


def dialect_of(path: str) -> Dialect:
    """The dialect of a path."""
    return "rest" if is_rest(path) else "oapi"


def new_request_id(dialect: Dialect) -> str:
    """A name for a call, in the look of its dialect."""
    return str(uuid.uuid4()).upper() if dialect == "rest" else secrets.token_hex(7)


def refused(words: RefusalTexts, path: str) -> DoorAnswer:
    """A refusal as the dialect of the path words it."""
    dialect = dialect_of(path)
    request_id = new_request_id(dialect)
    if dialect == "rest":
        message = words.message or words.errmsg
        content = {"code": words.code, "requestid": request_id, "message": message}
        return DoorAnswer(content, words.status)
    errcode, sub_code, whose = words.errcode, words.sub_code, "Remote service"
    topapi = path.startswith("/topapi/")
    if words.wrapped == "always" or (words.wrapped == "topapi" and topapi):
        errcode, sub_code, whose = 88, str(words.errcode), "ding talk"
    if sub_code:
        return DoorAnswer(
            {
                "errcode": errcode,
                "sub_code": sub_code,
                "sub_msg": words.errmsg,
                "errmsg": f"{whose} error[subcode={sub_code},submsg={words.errmsg}]",
                "request_id": request_id,
            }
        )
    number = {"request_id": request_id} if words.numbered else {}
    return DoorAnswer({"errcode": words.errcode, "errmsg": words.errmsg, **number})


def ok(**fields: Any) -> DoorAnswer:
    """Success in the old dialect."""
    request_id = fields.pop("request_id", "") or new_request_id("oapi")
    return DoorAnswer({"errcode": 0, "errmsg": "ok", **fields, "request_id": request_id})
