"""Frames of a stream in both directions, and the tickets that open one (API §7.4)."""

import json
import secrets
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events.event import Event

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
    if event.is_callback:
        return _frame(CALLBACK, message_id, at, {"topic": event.type}, dict(event.fields))
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


EVENTS = "EVENT"
EVERY_TOPIC = "*"
CALLBACK = "CALLBACK"
MOST_TICKETS = 10_000
"""Tickets that wait to be used; the oldest go first."""


Subscription = tuple[Literal["EVENT", "CALLBACK"], str]
"""The subscription of a connection: all events, or the callbacks of a topic."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to open a connection. `until` is a moment of the clock that never jumps."""

    app_key: str
    subscriptions: tuple[Subscription, ...]
    client: str
    until: float


class Tickets:
    """The tickets that were issued and not used, and who has ever asked for events."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[str, Ticket] = OrderedDict()
        self._for_events: set[str] = set()

    def issue(
        self, app_key: str, subscriptions: Sequence[Subscription], *, client: str, until: float
    ) -> str:
        """A new ticket of an app."""
        value = secrets.token_hex(16)
        self._tickets[value] = Ticket(app_key, tuple(subscriptions), client, until)
        if len(self._tickets) > MOST_TICKETS:
            self._tickets.popitem(last=False)
        if any(kind == EVENTS for kind, _ in subscriptions):
            self._for_events.add(app_key)
        return value

    def take(self, value: str, *, now: float) -> Ticket | None:
        """Use a ticket; None where it was used, is too old or never was."""
        ticket = self._tickets.pop(value, None)
        return ticket if ticket is not None and now < ticket.until else None

    def wants_events(self, app_key: str) -> bool:
        """Whether an app has asked for events through a stream."""
        return app_key in self._for_events
