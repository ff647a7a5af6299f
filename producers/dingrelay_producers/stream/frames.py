"""What travels on a stream, in both directions (API §7.4)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

SYSTEM = "SYSTEM"
EVENT = "EVENT"
PING = "ping"
DISCONNECT = "disconnect"

Worth = Literal["SUCCESS", "LATER"]
"""What an answer to an event says: it is taken, or is to be sent again."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of DingTalk's.

    Attributes:
        type: ``SYSTEM``, ``EVENT`` or ``CALLBACK``; anything else is passed over.
        topic: of its type, such as ``ping``.
        message_id: what the answer names.
        data: JSON as text.
    """

    type: str
    topic: str
    message_id: str
    headers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    data: str = ""


def read(text: str) -> Frame | None:
    """A frame; None for what is none."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    frame = cast("dict[str, Any]", content)
    headers = frame.get("headers")
    if not isinstance(headers, dict):
        return None
    named = cast("dict[str, Any]", headers)
    data = frame.get("data")
    return Frame(
        type=str(frame.get("type")),
        topic=str(named.get("topic")),
        message_id=str(named.get("messageId", "")),
        headers=named,
        # The documents have a text here; an object is taken as well.
        data=data if isinstance(data, str) else json.dumps(data, ensure_ascii=False),
    )


def pong(frame: Frame) -> str:
    """The answer to a ping: what it sent, as it came."""
    return _answer(frame, frame.data)


def acknowledgement(frame: Frame, worth: Worth) -> str:
    """The answer to an event."""
    data = {"status": worth, "message": "success" if worth == "SUCCESS" else "not taken yet"}
    return _answer(frame, json.dumps(data))


def _answer(frame: Frame, data: str) -> str:
    headers = {"messageId": frame.message_id, "contentType": "application/json"}
    # In ASCII: an id or a ping may hold half of a character, which UTF-8 can't carry.
    return json.dumps({"code": 200, "headers": headers, "message": "OK", "data": data})
