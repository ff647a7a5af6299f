"""An `Event` from what DingTalk sends: in an HTTP push, in a frame of the stream, in its failed list.

Names of fields are read in any letters, since DingTalk spells them differently from one format to the
next (API §7.3). What is not understood is kept in `Event.data`; nothing here is DingTalk's secret.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn, cast

from dingrelay_tasks.contract import DEEPEST, ContractError, too_deep
from dingrelay_tasks.event import LONGEST_EVENT_ID, Event, value
from dingrelay_tasks.sentence import en

COMMON = ("EventType", "EventTime", "CorpId", "eventId")
"""Fields of every push, which an `Event` has by other names."""

ROBOT_MESSAGES = "/v1.0/im/bot/messages/get"
"""Topic of the messages that people write to a robot (API §12.14)."""
ROBOT_MESSAGE = "robot.message"
"""Type of such an event, and of its notice."""
SESSION = "sessionWebhook"

FAILED_DATA = ("bpmsCallBackData", "callbackData", "roleLabelChange")
"""Under one of these a failed event has its fields, if not at once (API §11.7)."""


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def decode(text: str) -> dict[str, Any]:
    """The object in a JSON text of DingTalk's. Half a character, such as a cut emoji, is replaced.

    Raises:
        ContractError: it is no JSON object, or has too many levels.
    """
    try:
        payload = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise ContractError("event", "is no JSON") from None
    if not isinstance(payload, dict):
        raise ContractError("event", "is no JSON object")
    if too_deep(payload, text):
        raise ContractError("event", en("has more than {} levels", DEEPEST))
    decoded: dict[str, Any] = _whole(payload) if _SURROGATE.search(text) else payload
    return decoded


def of_push(app: str, payload: Mapping[str, Any]) -> Event:
    """The event of an HTTP push, decrypted (API §7.3).

    Raises:
        ContractError: names the field that is wrong.
    """
    return _event(
        app,
        event_type=value(payload, "EventType"),
        event_id=value(payload, "eventId"),
        corp_id=value(payload, "CorpId"),
        born_at=value(payload, "EventTime") or value(payload, "TimeStamp"),
        data=_fields_of_its_own(payload),
    )


def of_frame(app: str, headers: Mapping[str, Any], data: Mapping[str, Any]) -> Event:
    """The event of a frame of the stream (API §7.4).

    Raises:
        ContractError: names the field that is wrong.
    """
    headers = _whole(headers)
    return _event(
        app,
        event_type=value(headers, "eventType"),
        event_id=value(headers, "eventId"),
        corp_id=value(headers, "eventCorpId"),
        born_at=value(headers, "eventBornTime"),
        data=dict(data),
    )


def of_robot(app: str, headers: Mapping[str, Any], data: Mapping[str, Any]) -> Event:
    """A message that a person has written to a robot, with the target of a reply instead of its address.

    Raises:
        ContractError: names the field that is wrong.
    """
    message = _whole(data)
    content = {name: field for name, field in message.items() if not name.startswith(SESSION)}
    return _event(
        app,
        event_type=ROBOT_MESSAGE,
        event_id=value(message, "msgId"),
        corp_id=value(message, "chatbotCorpId"),
        born_at=value(message, "createAt"),
        data={**content, "reply": {"session": _session_name(app, message)}},
    )


def session_of(app: str, data: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of a message's session, and where a reply goes: by its address, later by conversation or user."""
    session = {name: data.get(name) for name in SESSION_FIELDS}
    return _session_name(app, _whole(data)), {"app": app, **session}


SESSION_FIELDS = (
    SESSION,
    "sessionWebhookExpiredTime",
    "robotCode",
    "conversationType",
    "conversationId",
    "senderStaffId",
)


def _session_name(app: str, message: Mapping[str, Any]) -> str:
    content = json.dumps([app, message.get("msgId"), message.get(SESSION)])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def of_failed(app: str, entry: Mapping[str, Any]) -> Event:
    """An entry of the list of what DingTalk could not push: without an id, perhaps without ids at all.

    Raises:
        ContractError: names the field that is wrong.
    """
    event_type = value(entry, "call_back_tag")
    payload = value(entry, event_type) if isinstance(event_type, str) else None
    fields = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    data = {name: field for name, field in fields.items() if name not in FAILED_DATA}
    for name in FAILED_DATA:
        inner = fields.get(name)
        if isinstance(inner, str):
            inner = decode(inner)
        if isinstance(inner, dict):
            data |= cast("dict[str, Any]", inner)
    return _event(
        app,
        event_type=event_type,
        event_id=value(data, "eventId"),
        corp_id=value(data, "CorpId"),
        born_at=value(entry, "event_time"),
        data=_fields_of_its_own(data),
    )


def _fields_of_its_own(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that not every event has."""
    common = {name.lower() for name in COMMON}
    return {name: field for name, field in fields.items() if name.lower() not in common}


def _event(
    app: str, *, event_type: Any, event_id: Any, corp_id: Any, born_at: Any, data: dict[str, Any]
) -> Event:
    """The event. A wrong id, time or organisation is no reason to lose it."""
    return Event.parse(
        {
            "app": app,
            "event_type": event_type,
            "event_id": _id(event_id),
            "corp_id": corp_id if isinstance(corp_id, str) and len(corp_id) <= 128 else None,
            "born_at": _moment(born_at),
            "data": data,
        }
    )


def _id(raw_id: Any) -> str:
    """DingTalk's id; empty if invalid: repeats of the event are then detected by its content."""
    if isinstance(raw_id, int) and not isinstance(raw_id, bool):
        raw_id = str(raw_id)
    return raw_id if isinstance(raw_id, str) and len(raw_id) <= LONGEST_EVENT_ID else ""


def _moment(milliseconds: Any) -> int | None:
    """Milliseconds, which DingTalk sends as a number or as text."""
    try:
        moment = int(milliseconds)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if 0 <= moment < 2**53 else None


def _whole(document: Any) -> Any:
    """The same with each half of a character replaced."""
    return json.loads(json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"))


def _no_number(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
