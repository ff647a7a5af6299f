"""Messages to send: one of each of DingTalk's types, and any number of different texts."""

from typing import Any

from dingrelay_tasks import MessageSend
from dingrelay_tasks.contract import Lane

ONE_OF_EACH: tuple[dict[str, Any], ...] = (
    {"msgtype": "text", "text": {"content": "今天 18:00 机房维护，请提前保存。"}},
    {"msgtype": "image", "image": {"media_id": "@lADPDfYH0cKzWvDNAfTNAfQ"}},
    {"msgtype": "voice", "voice": {"media_id": "@lATPDe7s1vPqYrHOGcTNAfQ", "duration": "10"}},
    {"msgtype": "file", "file": {"media_id": "@lAjPDgQ9r2mXcLzOA1TNAfQ"}},
    {
        "msgtype": "link",
        "link": {
            "messageUrl": "https://intranet.example.com/news/7",
            "picUrl": "@lADPDfYH0cKzWvDNAfTNAfQ",
            "title": "新办公区启用",
            "text": "三楼已经开放。",
        },
    },
    {"msgtype": "markdown", "markdown": {"title": "发布", "text": "## 2.3 已上线\n- 更快\n- 更稳"}},
    {
        "msgtype": "oa",
        "oa": {
            "message_url": "https://intranet.example.com/expense/81",
            "head": {"bgcolor": "FFBBBBBB", "text": "报销"},
            "body": {
                "title": "报销单待确认",
                "form": [{"key": "金额", "value": "386.50 元"}],
                "author": "财务",
            },
        },
    },
    {
        "msgtype": "action_card",
        "action_card": {
            "title": "年度体检",
            "markdown": "请选择日期",
            "btn_orientation": "1",
            "btn_json_list": [
                {"title": "周三", "action_url": "https://intranet.example.com/checkup/3"},
                {"title": "周四", "action_url": "https://intranet.example.com/checkup/4"},
            ],
        },
    },
)


def message(user: str, content: dict[str, Any], lane: Lane = "normal") -> MessageSend:
    """A message to one person."""
    return MessageSend.parse({"to": {"users": [user]}, "message": content, "lane": lane})


def to_mobile(number: str, content: dict[str, Any]) -> MessageSend:
    """A message to whoever has a mobile number."""
    return MessageSend.parse({"to": {"mobiles": [number]}, "message": content})


def texts(count: int, subject: str, lane: Lane) -> list[MessageSend]:
    """As many messages, each to another person and with another text: none can share a call."""
    return [
        message(f"u{number}", text(f"{subject}：第 {number} 号"), lane)
        for number in range(1, count + 1)
    ]


def text(content: str) -> dict[str, Any]:
    """A text message."""
    return {"msgtype": "text", "text": {"content": content}}
