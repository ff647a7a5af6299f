"""Work notifications, and the files in them (API §2.1 to §2.6, §11.5)."""

import json
import secrets
from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import Refusal
from dingrelay_sandbox.apis.api import Fields, api
from dingrelay_sandbox.call import Call, Parameters
from dingrelay_sandbox.sends import DELIVERED, Send
from dingrelay_sandbox.state import SandboxState

MOST_USERS = 100
MOST_DEPARTMENTS = 20
MOST_FOR_RESULT = 100
DAY_SECONDS = 86_400
STATUS_BAR_SECONDS = 7 * DAY_SECONDS
_FLOW_CONTROLLED = frozenset({"143103", "143105", "143106", "41029"})


@api("POST", "/topapi/message/corpconversation/asyncsend_v2", counted=True)
def send(state: SandboxState, call: Call) -> Fields:
    """``asyncsend_v2``: accepted for all, delivered as the silent limits allow."""
    parameters = call.parameters
    _check_agent(call, parameters)
    message = parameters.decoded("msg")
    check_message(message)
    users = parameters.separated("userid_list")
    departments = parameters.separated_wholes("dept_id_list")
    everyone = parameters.flag_or("to_all_user", default=False)
    if len(users) > MOST_USERS:
        raise Refusal(400_002, f"userid_list最多{MOST_USERS}个")
    if len(departments) > MOST_DEPARTMENTS:
        raise Refusal(400_002, f"dept_id_list最多{MOST_DEPARTMENTS}个")
    if not (everyone or users or departments):
        raise parameters.missing("userid_list,dept_id_list,to_all_user")
    reached = _recipients(state, call, users, departments, everyone=everyone)
    call.recipients = len(reached)
    scope = state.scopes.reached_by(call.caller)

    def reachable(userid: str) -> str:
        if userid not in state.organisation.people:
            return "unknown_user"
        return DELIVERED if scope.user(userid) else "scope"

    sent = state.sends.deliver(call, "work", message, reached, reachable)
    sent.invalid_departments = [each for each in departments if not scope.department(each)]
    return {"task_id": sent.task_id}


@api("POST", "/topapi/message/corpconversation/getsendprogress", counted=True)
def progress(state: SandboxState, call: Call) -> Fields:
    """``getsendprogress``: the sandbox delivers at once."""
    _find(state, call, "task_id", DAY_SECONDS)
    return {"progress": {"progress_in_percent": 100, "status": 2}}


@api("POST", "/topapi/message/corpconversation/getsendresult", counted=True)
def result(state: SandboxState, call: Call) -> Fields:
    """``getsendresult``: who got it, and why the others did not."""
    sent = _find(state, call, "task_id", DAY_SECONDS)
    if len(sent.entries) > MOST_FOR_RESULT:
        raise Refusal(41_052, "发送人数过多或者发送进度未完成，暂时不返回结果")
    entries = sent.entries
    thresholds = {"143105": state.limits.user_day, "143106": 1}
    stopped = [entry for entry in entries if entry.reason in _FLOW_CONTROLLED]
    content: dict[str, Any] = {
        "invalid_user_id_list": [
            entry.user for entry in entries if entry.reason in {"unknown_user", "scope"}
        ],
        "forbidden_user_id_list": [entry.user for entry in stopped],
        "failed_user_id_list": [],
        "read_user_id_list": [],
        "unread_user_id_list": [entry.user for entry in entries if not entry.reason],
        "invalid_dept_id_list": sent.invalid_departments,
        "forbidden_list": [
            {
                "code": entry.reason,
                "count": thresholds.get(entry.reason, state.limits.recipients_per_call),
                "userid": entry.user,
            }
            for entry in stopped
        ],
    }
    return {"send_result": content}


@api("POST", "/topapi/message/corpconversation/recall", counted=True)
def recall(state: SandboxState, call: Call) -> Fields:
    """``recall``: within 24 hours."""
    _find(state, call, "msg_task_id", DAY_SECONDS).recalled = True
    return {}


@api("POST", "/topapi/message/corpconversation/status_bar/update", counted=True)
def status_bar(state: SandboxState, call: Call) -> Fields:
    """``status_bar/update``: of `oa` messages, within 7 days."""
    sent = _find(state, call, "task_id", STATUS_BAR_SECONDS)
    message = json.loads(sent.content.message)
    if message["msgtype"] != "oa":
        raise Refusal(400_002, "仅支持OA消息")
    parameters = call.parameters
    sent.status_bar = {
        "status_value": parameters.text("status_value"),
        "status_bg": parameters.text_or("status_bg", ""),
    }
    return {}


def _check_agent(call: Call, parameters: Parameters) -> None:
    if parameters.text("agent_id") != call.caller.agent_id:
        raise Refusal(40_056, "不合法的agentid")


def _recipients(
    state: SandboxState, call: Call, users: list[str], departments: list[int], *, everyone: bool
) -> list[str]:
    """Everybody who is meant, each once; a department stands for all below it, too."""
    organisation = state.organisation
    scope = state.scopes.reached_by(call.caller)
    if everyone:
        if not state.sends.everyone_left(call.caller.app_key, call.at):
            raise Refusal(41_045, "全员推送每天最多3次")
        return [userid for userid in organisation.people if scope.user(userid)]
    return list(dict.fromkeys([*users, *organisation.reach(departments)]))


def _find(state: SandboxState, call: Call, name: str, within_seconds: float) -> Send:
    """The caller's own send that a call is about."""
    parameters = call.parameters
    _check_agent(call, parameters)
    sent = state.sends.find(parameters.whole(name))
    if sent is None or sent.app_key != call.caller.app_key or sent.at < call.at - within_seconds:
        raise Refusal(400_002, f"参数错误 {name}")
    return sent


LONGEST_TEXT = 5_000

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "text": ("content",),
    "image": ("media_id",),
    "voice": ("media_id", "duration"),
    "file": ("media_id",),
    "link": ("messageUrl", "picUrl", "title", "text"),
    "markdown": ("title", "text"),
    "action_card": ("markdown",),
    "oa": ("message_url", "head", "body"),
}

LONGEST: Mapping[tuple[str, str], int] = {
    ("text", "content"): LONGEST_TEXT,
    ("markdown", "text"): LONGEST_TEXT,
    ("action_card", "markdown"): LONGEST_TEXT,
    ("action_card", "single_title"): 20,
    ("action_card", "single_url"): 500,
}
LONGEST_BUTTONS = 1_000


def check_message(message: Any) -> None:
    """Refuse what DingTalk would: 40008 no such type, 40035 a field, 34016 too long."""
    if not isinstance(message, dict):
        raise Refusal(40_035, "不合法的参数 msg")
    kind = message.get("msgtype")
    if not isinstance(kind, str) or kind not in REQUIRED:
        raise Refusal(40_008, "不合法的消息类型")
    part = message.get(kind)
    if not isinstance(part, dict):
        raise Refusal(40_035, f"缺少参数 msg.{kind}")
    for name in REQUIRED[kind]:
        if not part.get(name):
            raise Refusal(40_035, f"缺少参数 msg.{kind}.{name}")
    for (owner, name), longest in LONGEST.items():
        if owner == kind and len(str(part.get(name) or "")) > longest:
            raise Refusal(34_016, f"消息内容过长 msg.{kind}.{name}")
    _check_particulars(kind, part)


def _check_particulars(kind: str, part: dict[str, Any]) -> None:
    if kind == "voice":
        duration = part["duration"]
        if (
            not isinstance(duration, str)
            or not duration.isdecimal()
            or not 0 < int(duration[:3]) < 60
        ):
            raise Refusal(40_035, "不合法的参数 msg.voice.duration")
    if kind == "oa":
        head = part["head"]
        if not isinstance(head, dict) or not head.get("bgcolor") or not head.get("text"):
            raise Refusal(40_035, "缺少参数 msg.oa.head")
        if not isinstance(part["body"], dict):
            raise Refusal(40_035, "不合法的参数 msg.oa.body")
    if kind == "action_card":
        _check_buttons(part)


def _check_buttons(part: dict[str, Any]) -> None:
    buttons = part.get("btn_json_list")
    if buttons is None:
        if not part.get("single_title") or not part.get("single_url"):
            raise Refusal(40_035, "缺少参数 msg.action_card.single_title")
        return
    if not isinstance(buttons, list) or not buttons:
        raise Refusal(40_035, "不合法的参数 msg.action_card.btn_json_list")
    for button in buttons:
        if not isinstance(button, dict) or not button.get("title") or not button.get("action_url"):
            raise Refusal(40_035, "缺少参数 msg.action_card.btn_json_list.title")
    if len(json.dumps(buttons, ensure_ascii=False)) > LONGEST_BUTTONS:
        raise Refusal(34_016, "消息内容过长 msg.action_card.btn_json_list")


LARGEST = {"image": 20, "voice": 2, "video": 20, "file": 20}
"""Megabytes of a file."""
SUFFIXES = {
    "image": frozenset({"jpg", "jpeg", "gif", "png", "bmp"}),
    "voice": frozenset({"amr", "mp3", "wav"}),
    "video": frozenset({"mp4"}),
    "file": frozenset({"doc", "docx", "xls", "xlsx", "ppt", "pptx", "zip", "pdf", "rar"}),
}


@api("POST", "/media/upload", takes_file=True, counted=True)
def upload(state: SandboxState, call: Call) -> Fields:
    """``POST /media/upload``: the kind is in the query or the form."""
    kind = call.query.get("type") or (call.payload or {}).get("type")
    if kind not in LARGEST:
        raise Refusal(40_004, "不合法的媒体文件类型")
    file = call.upload
    if file is None or file.field != "media" or not file.size:
        raise Refusal(41_005, "缺少多媒体文件数据")
    if file.name.rpartition(".")[2].lower() not in SUFFIXES[kind]:
        raise Refusal(40_005, "不合法的文件类型")
    if file.size > LARGEST[kind] * 1024 * 1024:
        raise Refusal(40_006, "不合法的文件大小")
    number = f"@lAD{secrets.token_urlsafe(12)}"
    kept = {"id": number, "app": call.caller.app_key, "kind": kind, "name": file.name}
    state.media.append({**kept, "size": file.size})
    return {"type": kind, "media_id": number, "created_at": int(call.at * 1000)}
