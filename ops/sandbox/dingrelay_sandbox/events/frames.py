"""What travels on a stream, in both directions (API §7.4)."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.tickets import EVENTS, EVERY_TOPIC

SYSTEM = "SYSTEM"
PING = "ping"
DISCONNECT = "disconnect"
SUCCESS = "success"
LATER = "LATER"


def event_frame(event: Event, app: App, *, message_id: str, connection: str, at: float) -> str:
    """An event; its headers are texts, and its fields are JSON within JSON."""
    headers = {
        "appId": unified_app_id(app.app_key),
        "connectionId": connection,
        "topic": EVERY_TOPIC,
        "eventType": event.type,
        "eventId": event.id,
        "eventCorpId": app.organisation,
        "eventBornTime": str(event.born_ms),
        "eventUnifiedAppId": unified_app_id(app.app_key),
    }
    return _frame(EVENTS, message_id, at, headers, dict(event.fields))


def system_frame(topic: str, data: Mapping[str, Any], *, message_id: str, at: float) -> str:
    """A frame about the connection itself."""
    return _frame(SYSTEM, message_id, at, {"topic": topic}, data)


def read_ack(text: str) -> tuple[str, str, str] | None:
    """The message that an answer is to, what the answer is worth, and its data; None: no answer.

    The Python client answers with a code and the event's own data, the one for Node with 200 and a
    ``status`` in the data (API §11.6).
    """
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        return None
    headers = answer.get("headers") if isinstance(answer, dict) else None
    if not isinstance(headers, dict) or not isinstance(headers.get("messageId"), str):
        return None
    data = answer.get("data")
    message = data if isinstance(data, str) else ""
    return headers["messageId"], _worth(answer.get("code"), message), message


def unified_app_id(app_key: str) -> str:
    """The id of an app that is the same in all of DingTalk."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, app_key))


def _worth(code: object, data: str) -> str:
    if str(code) != "200":
        return f"code {code}"
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return SUCCESS
    later = isinstance(content, dict) and content.get("status") == LATER
    return LATER if later else SUCCESS


def _frame(
    kind: str, message_id: str, at: float, headers: Mapping[str, str], data: Mapping[str, Any]
) -> str:
    frame = {
        "specVersion": "1.0",
        "type": kind,
        "headers": {
            "contentType": "application/json",
            "messageId": message_id,
            "time": str(int(at * 1_000)),
            **headers,
        },
        "data": json.dumps(data, ensure_ascii=False),
    }
    # Halves of characters, which a remark may have brought along, can't be sent.
    return json.dumps(frame, ensure_ascii=False).encode(errors="replace").decode()
