"""Messages by robots: to single people, and into a group through a webhook (API §2.7, §2.8, §11.4)."""

import ast
import base64
import hashlib
import hmac
import json
from typing import Any
from urllib.parse import unquote

from dingrelay_sandbox.answers import Answer, Dialect, Refusal, json_answer
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.robots import GroupPost, Robot
from dingrelay_sandbox.sends import DELIVERED, Send
from dingrelay_sandbox.state import SandboxState

MOST_USERS = 20
LARGEST_BODY = 20_000
SIGNATURE_SECONDS = 3_600
MOST_KEYS = 20
DAY_SECONDS = 86_400
QUERY_KEY = "query"
MESSAGE_KINDS = frozenset(
    f"sample{kind}"
    for kind in (
        *("Text", "Markdown", "Link", "ImageMsg", "Audio", "Video", "File", "ActionCard"),
        *(f"ActionCard{number}" for number in range(2, 7)),
    )
)


@api("POST", "/v1.0/robot/oToMessages/batchSend", counted=True)
def batch_send(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/robot/oToMessages/batchSend``."""
    parameters = call.parameters
    check_robot(call, parameters)
    users = parameters.texts("userIds")
    if not users:
        raise Refusal("invalidParameter.userIds.empty", "userIds不能为空")
    if len(users) > MOST_USERS:
        raise Refusal("invalidParameter.userIds.overMax", f"userIds最多{MOST_USERS}个")
    content = read_message(parameters)
    call.recipients = len(users)
    scope = state.scopes.reached_by(call.caller)
    known = [u for u in users if u in state.organisation.people and scope.user(u)]
    reached = [u for u in known if u not in state.robots.flow_controlled]
    sent = state.sends.deliver(call, "robot", content, reached, lambda _: DELIVERED)
    return {
        "processQueryKey": f"{QUERY_KEY}{sent.task_id}",
        "invalidStaffIdList": [u for u in users if u not in known],
        "flowControlledStaffIdList": [u for u in known if u in state.robots.flow_controlled],
        "filteredStaffIdList": [],
    }


@api("GET", "/v1.0/robot/oToMessages/readStatus", counted=True)
def read_status(state: SandboxState, call: Call) -> Fields:
    """``GET /v1.0/robot/oToMessages/readStatus``: within 24 hours."""
    parameters = call.parameters
    check_robot(call, parameters)
    key = parameters.text("processQueryKey")
    sent = _find(state, call, key)
    if sent is None or _age(state, call, sent) < 0.5:
        raise Refusal("processQueryKey.expireTime", "processQueryKey已过期或未生成")
    if _age(state, call, sent) < 1:
        return {"sendStatus": "PROCESSING", "messageReadInfoList": []}
    organisation, readers = state.organisation, state.robots.read.get(key, ())
    read = [
        {
            "userId": entry.user,
            "name": organisation.fields(organisation.people[entry.user])["name"],
            "readStatus": "READ" if entry.user in readers else "UNREAD",
        }
        for entry in sent.entries
        if entry.user in organisation.people
    ]
    status = "RECALLED" if sent.recalled else "SUCCESS"
    return {"sendStatus": status, "messageReadInfoList": read}


@api("POST", "/v1.0/robot/groupMessages/recall", counted=True)
@api("POST", "/v1.0/robot/otoMessages/batchRecall", counted=True)
def recall(state: SandboxState, call: Call) -> Fields:
    """Recall messages: those to people within 24 hours."""
    parameters, in_group = call.parameters, "groupMessages" in call.path
    check_robot(call, parameters)
    group = _group(state, call) if in_group else ""
    keys = parameters.texts("processQueryKeys")
    if not 1 <= len(keys) <= MOST_KEYS:
        raise parameters.invalid("processQueryKeys")
    found: dict[str, Send | GroupPost] = {}
    for key in keys:
        if sent := _posted(state, call, group, key) if in_group else _find(state, call, key):
            sent.recalled, found[key] = True, sent
    failed = {key: "消息不存在" for key in keys if key not in found}
    return {"successResult": list(found), "failedResult": failed}


def _age(state: SandboxState, call: Call, sent: Send | GroupPost) -> float:
    """How far its delivery is; 1: it is delivered."""
    lag = state.limits.read_lag_seconds
    return (call.at - sent.at) / lag if lag else 1


def check_robot(call: Call, parameters: Parameters) -> None:
    """The robot must be the caller's."""
    if not parameters.has("robotCode"):
        raise Refusal("invalidParameter.robotCode.empty", "robotCode不能为空")
    if parameters.text("robotCode") != call.caller.robot:
        raise Refusal(
            "invalidParameter.robotCode.notExsit",  # sic (API §12.7)
            "错误描述: robot 不存在；解决方案:请确认 robotCode 是否正确；",
        )


def read_message(parameters: Parameters) -> dict[str, str]:
    """A robot's message: one of DingTalk's kinds, and its parts as the text of an object."""
    kind = parameters.text_or("msgKey", "")
    if kind not in MESSAGE_KINDS:
        raise Refusal("invalidParameter.msgKey.invalid", "无效的msgKey")
    text = parameters.raw("msgParam")
    if not isinstance(text, str) or not isinstance(_object(text), dict):
        raise Refusal("invalidParameter.msgParam.invalid", "无效的msgParam")
    return {"msgKey": kind, "msgParam": text}


@api("POST", "/robot/send", access="own")
def webhook(state: SandboxState, call: Call) -> Answer:
    """``POST /robot/send``: the token names the robot, not an app."""
    token = call.query.get("access_token", "")
    if not token:
        raise Refusal(40_035, "缺少参数 access_token")
    if not state.limiter.robot(token, call.at):  # before it is known whether there is such a robot
        raise _Blocked(state.limiter.limits.robot_refusal)
    robot = state.robots.robots.get(token)
    if robot is None:
        raise Refusal(300_005, "token is not exist", verdict="token")
    message = _checked(call)
    if call.size > LARGEST_BODY:
        raise Refusal(
            460_101, "description: body 大小不合法;solution:请保持大小在 20000bytes 以内;"
        )
    _check_security(robot, call, generation=0 if state.limits.robot_old_texts else 1)
    month = state.limiter.robot_month(token, call.at, robot.month)
    if not month or not state.limiter.push(state.start.app.organisation, call.at):
        raise Refusal(90_030, "webhook over limit", verdict="quota")
    if not state.robots.seen(robot.token, message.get("msgUuid")):
        state.robots.post(call, robot.token, robot.group, message)
    return json_answer({"errcode": 0, "errmsg": "ok"})


@api("POST", "/robot/sendBySession", access="own")
def reply(state: SandboxState, call: Call) -> Answer:
    """``POST /robot/sendBySession``: the session names the conversation, for 90 minutes."""
    place, until = state.robots.sessions.get(call.query.get("session", ""), ("", 0.0))
    if call.at >= until:
        raise Refusal(300_001, "session 不存在")
    message = _checked(call)
    state.robots.post(call, "session", place, message)
    return json_answer({"errcode": 0, "errmsg": "ok"})


class _Blocked(Refusal):
    """The answer to a call too many, and to all that follow for ten minutes (API §12.3)."""

    def __init__(self, code: str) -> None:
        super().__init__(code, _TOO_FAST.get(code, ""), verdict="throttled")

    def answer(self, dialect: Dialect, request_id: str) -> Answer:
        """A code, a redirect, or a refusal without one."""
        if self.code == "redirect":
            return Answer(302, b"", headers=(("Location", "/punish"),))
        if self.code == "punish":
            content = {"status": 1111, "wait": 5, "source": "x5", "punish": "deny", "uuid": "1"}
            return json_answer(content)
        return super().answer(dialect, request_id)


_TOO_FAST = {
    "130101": "send too fast, exceed 20 times per minute",
    "660026": "sending too many messages per minute",
    "410100": "发送速度太快而限流",
}
_PARTS = {
    "text": (400_201, {"content": 400_202}),
    "link": (400_301, {"text": 400_302, "title": 400_303, "messageUrl": 400_304}),
    "markdown": (400_401, {"title": 400_402, "text": 400_403}),
    "actionCard": (400_501, {"text": 400_503}),
    "feedCard": (400_601, {"links": 400_602}),
}
"""Type → the codes for what is missing of it (API §12.1)."""


def _checked(call: Call) -> dict[str, Any]:
    """The message of a call, which must be of a type and have the parts that its type needs."""
    message = call.payload
    if message is None:
        raise Refusal(40_035, "缺少参数 json")
    kind = message.get("msgtype")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise Refusal(400_105, f"错误描述: 不支持类型 msgType:{kind} ;解决方案:请使用支持的类型;")
    missing, fields = _PARTS[kind]
    part = message.get(kind)
    if not isinstance(part, dict):
        raise Refusal(missing, f"miss param : {kind}")
    for name, code in fields.items():
        if not part.get(name):
            raise Refusal(code, f"description:参数 {kind} --》 {name} 缺失，或者参数格式不正确;")
    return message


_STALE = (
    "invalid timestamp",
    "description:机器人发送签名过期;solution:签名生成时间和发送时间请保持在 timestampms 以内;",
)
_UNSIGNED = (
    "sign not match",
    "description:机器人发送签名不匹配;solution:请确认机器人的密钥填写正确;",
)
_KEYWORD = (
    "keywords not in content",
    "description:关键词不匹配;solution:请在发送的信息中包含此关键词;",
)
"""310000 as it is explained of old, and since 2022 (API §12.2)."""


def _check_security(robot: Robot, call: Call, *, generation: int) -> None:
    """Signature and keywords of the robot."""
    if robot.secret:
        timestamp = call.query.get("timestamp", "")
        age = abs(int(timestamp[:18]) / 1000 - call.at) if timestamp.isdecimal() else 0
        if age > SIGNATURE_SECONDS:
            raise Refusal(310_000, _STALE[generation])
        secret = robot.secret.encode()
        digest = hmac.new(secret, f"{timestamp}\n{robot.secret}".encode(), hashlib.sha256).digest()
        given = unquote(call.query.get("sign", ""))
        if not hmac.compare_digest(base64.b64encode(digest), given.encode()):
            raise Refusal(310_000, _UNSIGNED[generation])
    text = json.dumps(call.payload, ensure_ascii=False)
    if robot.keywords and not any(word in text for word in robot.keywords):
        raise Refusal(310_000, _KEYWORD[generation])


def _find(state: SandboxState, call: Call, key: str) -> Send | None:
    """The caller's own send of today, by the key that it was given."""
    number = key.removeprefix(QUERY_KEY)
    sent = state.sends.find(int(number)) if number.isdecimal() and len(number) < 20 else None
    if sent is None or sent.channel != "robot" or sent.app_key != call.caller.app_key:
        return None
    return sent if sent.at >= call.at - DAY_SECONDS else None


def _object(text: str) -> object:
    """The object in a text, with quotes of either kind: dingding-sdk sends Python's own."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (MemoryError, RecursionError, SyntaxError, ValueError):
            continue
    return None


LARGEST_PARAM_BYTES = 15_000
LARGEST_PAGE = 200


@api("POST", "/v1.0/robot/groupMessages/send", counted=True)
def group_send(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/robot/groupMessages/send``."""
    parameters, group = call.parameters, _group(state, call)
    message = read_message(parameters)
    if len(message["msgParam"].encode(errors="replace")) > LARGEST_PARAM_BYTES:
        raise Refusal("invalidParameter.msgParam.invalid", "msgParam过长")
    key = f"group{len(state.robots.group_posts) + 1}"
    state.robots.group_posts[key] = GroupPost(group, call.caller.app_key, call.at)
    state.robots.post(call, call.caller.robot, group, dict(message))
    return {"processQueryKey": key}


@api("POST", "/v1.0/robot/groupMessages/query", counted=True)
def group_query(state: SandboxState, call: Call) -> Fields:
    """``POST /v1.0/robot/groupMessages/query``."""
    parameters, group = call.parameters, _group(state, call)
    if not 1 <= parameters.whole_or("maxResults", LARGEST_PAGE) <= LARGEST_PAGE:
        raise parameters.invalid("maxResults")
    key = parameters.text("processQueryKey")
    post = _posted(state, call, group, key)
    if post is None:
        raise parameters.invalid("processQueryKey")
    if _age(state, call, post) < 1:
        return {"sendStatus": "PROCESSING", "readUserIds": [], "hasMore": False}
    size = parameters.whole_or("maxResults", LARGEST_PAGE)
    first = int(parameters.text_or("nextToken", "") or 0)
    readers, end = sorted(state.robots.read.get(key, ())), first + size
    return {
        "sendStatus": "RECALLED" if post.recalled else "SUCCESS",
        "readUserIds": readers[first:end],
        "hasMore": end < len(readers),
        "nextToken": str(end),
    }


def _group(state: SandboxState, call: Call) -> str:
    """The group that a call of the caller's robot is about."""
    check_robot(call, call.parameters)
    group = call.parameters.text("openConversationId")
    if group not in state.robots.groups:
        raise Refusal("invalidParameter.openConversationId.invalid", "群不存在")
    return group


def _posted(state: SandboxState, call: Call, group: str, key: str) -> GroupPost | None:
    """The caller's own post in a group."""
    post = state.robots.group_posts.get(key)
    own = post is not None and (post.app_key, post.group) == (call.caller.app_key, group)
    return post if own else None
