"""The changes of approvals in DingTalk's events (API §7.3, §11.7)."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from dingrelay_tasks.context import ApprovalChange, ApprovalState, ApprovalTask, TaskState

INSTANCE_CHANGE = "bpms_instance_change"
TASK_CHANGE = "bpms_task_change"
APPROVAL_EVENTS = frozenset({INSTANCE_CHANGE, TASK_CHANGE})

LONGEST_ID = 128
LONGEST_TEXT = 2_000
"""Characters of a title or an address that are kept."""

_DECISIONS: Mapping[str, ApprovalState] = {"agree": "approved", "refuse": "refused"}
_RESULTS: Mapping[str, TaskState] = {
    "agree": "agreed",
    "refuse": "refused",
    "redirect": "redirected",
}


def change_of(event_type: str, data: Mapping[str, Any]) -> ApprovalChange | None:
    """The change that an event reports; None where it names no approval.

    An unknown ``type`` gives neither a state nor a task, only that the approval exists.

    Fields are read whatever their capitals, and in DingTalk's misspellings, too.

    Args:
        event_type: ``bpms_instance_change`` or ``bpms_task_change``.
        data: the event's own fields.
    """
    fields = {name.lower(): value for name, value in data.items()}
    instance = _text(fields, "processinstanceid", LONGEST_ID)
    if not instance:
        return None
    change = ApprovalChange(
        instance=instance,
        source="event",
        template=_text(fields, "processcode", LONGEST_ID),
        title=_text(fields, "title"),
        business_id=_text(fields, "businessid", 64),
    )
    if event_type == TASK_CHANGE:
        task = _task(fields)
        return replace(change, tasks=[task] if task else [])
    return replace(
        change,
        state=_state(fields),
        originator=_text(fields, "staffid", 64),
        link=_text(fields, "url"),
        created=_moment(fields, "createtime"),
        finished=_moment(fields, "finishtime", "finshtime"),
    )


def _state(fields: Mapping[str, Any]) -> ApprovalState | None:
    match _text(fields, "type").lower():
        case "start":
            return "running"
        case "finish" | "finsh":
            return _DECISIONS.get(_text(fields, "result").lower())
        case "terminate":
            return "terminated"
        case "delete":
            return "deleted"
        case _:
            return None


def _task(fields: Mapping[str, Any]) -> ApprovalTask | None:
    number, user = _text(fields, "taskid", 64), _text(fields, "staffid", 64)
    if not number or not user:
        return None
    state: TaskState | None
    match _text(fields, "type").lower():
        case "start":
            state = "running"
        case "finish" | "finsh":
            state = _RESULTS.get(_text(fields, "result").lower())
        case "cancel":
            state = "cancelled"
        case _:
            state = None
    if state is None:
        return None
    return ApprovalTask(
        id=number,
        user=user,
        state=state,
        since=_moment(fields, "createtime"),
        ended=None if state == "running" else _moment(fields, "finishtime", "finshtime"),
    )


def _text(fields: Mapping[str, Any], name: str, longest: int = LONGEST_TEXT) -> str:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    # Characters that no database stores: NUL, and lone surrogates.
    text = str(value).replace("\0", "").encode("utf-8", "replace").decode()
    if name.endswith(("id", "code")) and len(text) > longest:
        return ""  # a part of an id would name something else
    return text[:longest]


def _moment(fields: Mapping[str, Any], *names: str) -> datetime | None:
    """A time in milliseconds since the epoch."""
    for name in names:
        value = _text(fields, name, 20)
        if value.isascii() and value.isdecimal():
            try:
                return datetime.fromtimestamp(int(value) / 1000, UTC)
            except (OverflowError, OSError, ValueError):
                continue
    return None
