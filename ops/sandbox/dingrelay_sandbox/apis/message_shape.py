"""What a `msg` object must look like (API §2.6)."""

import json
from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.answers import OapiRefusal

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
        raise OapiRefusal(40_035, "不合法的参数 msg")
    kind = message.get("msgtype")
    if not isinstance(kind, str) or kind not in REQUIRED:
        raise OapiRefusal(40_008, "不合法的消息类型")
    part = message.get(kind)
    if not isinstance(part, dict):
        raise OapiRefusal(40_035, f"缺少参数 msg.{kind}")
    for name in REQUIRED[kind]:
        if not part.get(name):
            raise OapiRefusal(40_035, f"缺少参数 msg.{kind}.{name}")
    for (owner, name), longest in LONGEST.items():
        if owner == kind and len(str(part.get(name) or "")) > longest:
            raise OapiRefusal(34_016, f"消息内容过长 msg.{kind}.{name}")
    _check_particulars(kind, part)


def _check_particulars(kind: str, part: dict[str, Any]) -> None:
    if kind == "voice":
        duration = part["duration"]
        if (
            not isinstance(duration, str)
            or not duration.isdecimal()
            or not 0 < int(duration[:3]) < 60
        ):
            raise OapiRefusal(40_035, "不合法的参数 msg.voice.duration")
    if kind == "oa":
        head = part["head"]
        if not isinstance(head, dict) or not head.get("bgcolor") or not head.get("text"):
            raise OapiRefusal(40_035, "缺少参数 msg.oa.head")
        if not isinstance(part["body"], dict):
            raise OapiRefusal(40_035, "不合法的参数 msg.oa.body")
    if kind == "action_card":
        _check_buttons(part)


def _check_buttons(part: dict[str, Any]) -> None:
    buttons = part.get("btn_json_list")
    if buttons is None:
        if not part.get("single_title") or not part.get("single_url"):
            raise OapiRefusal(40_035, "缺少参数 msg.action_card.single_title")
        return
    if not isinstance(buttons, list) or not buttons:
        raise OapiRefusal(40_035, "不合法的参数 msg.action_card.btn_json_list")
    for button in buttons:
        if not isinstance(button, dict) or not button.get("title") or not button.get("action_url"):
            raise OapiRefusal(40_035, "缺少参数 msg.action_card.btn_json_list.title")
    if len(json.dumps(buttons, ensure_ascii=False)) > LONGEST_BUTTONS:
        raise OapiRefusal(34_016, "消息内容过长 msg.action_card.btn_json_list")
