"""How an approval stands, as both generations of the API tell it (API §4.2, §4.3, §11.1)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dingrelay_tasks.beijing import BEIJING
from dingrelay_tasks.context import ApprovalState, ApprovalTask, TaskState
from dingrelay_workers.dingtalk import lenient

_ENDED: Mapping[str, ApprovalState] = {"agree": "approved", "refuse": "refused"}
_RESULTS: Mapping[str, TaskState] = {
    "AGREE": "agreed",
    "REFUSE": "refused",
    "REDIRECTED": "redirected",
    "REDIRECT": "redirected",
}


def state_of(status: str, result: str) -> ApprovalState | None:
    """The state behind DingTalk's two fields; None where they tell none.

    Args:
        status: ``NEW``, ``RUNNING``, ``TERMINATED``, ``CANCELED`` or ``COMPLETED``.
        result: ``agree`` or ``refuse``, of one that is completed.
    """
    match status.upper():
        case "NEW" | "RUNNING":
            return "running"
        case "TERMINATED" | "CANCELED" | "CANCELLED":
            return "terminated"
        case "COMPLETED":
            return _ENDED.get(result.lower())
        case _:
            return None


def tasks_of(entries: Sequence[Mapping[str, Any]]) -> list[ApprovalTask]:
    """The tasks in an answer of either generation; one without a number or a person is left out."""
    found: list[ApprovalTask] = []
    for entry in entries:
        number = _text(entry, "taskId", "taskid")
        user = _text(entry, "userId", "userid")
        if not number or not user:
            continue
        status = _text(entry, "status", "task_status").upper()
        result = _text(entry, "result", "task_result").upper()
        found.append(
            ApprovalTask(
                id=number,
                user=user,
                state=_task_state(status, result),
                since=moment(_text(entry, "createTime", "create_time")),
                ended=moment(_text(entry, "finishTime", "finish_time")),
            )
        )
    return found


def moment(text: str) -> datetime | None:
    """A time as DingTalk spells it; None for none, and for one in a form of its own.

    The new generation writes ``2022-08-31T11:52Z``, the old one ``2020-12-21 15:30:26`` in Beijing's
    time.
    """
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=BEIJING)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _task_state(status: str, result: str) -> TaskState:
    if status in {"NEW", "RUNNING", "PAUSED"}:
        return "running"
    if status in {"CANCELED", "CANCELLED"}:
        return "cancelled"
    return _RESULTS.get(result, "cancelled")


def _text(entry: Mapping[str, Any], *names: str) -> str:
    for name in names:
        try:
            if entry.get(name) is not None:
                return lenient.text(entry[name])
        except lenient.Unreadable:
            continue
    return ""
