"""How reports of an approval come together: in any order, repeated or not, they lead to the same.

Reports come by events, by look-ups and from jobs that decide a task. Each state has a rank, and the
highest one reported stands, so no order of them has to be kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from dingrelay_tasks.context import ApprovalChange, ApprovalState, ApprovalTask

RUNNING = "running"
_RANKS = {RUNNING: 0, "approved": 2, "refused": 3, "terminated": 4}
_DELETED = {"look": 1, "event": 5}
"""Rank of a deletion by its source. A look-up that finds nothing is weaker than any end, since DingTalk
may deny what exists. An event of a deletion is stronger: an approval can be deleted once it is decided."""
_TASK_RANKS = {RUNNING: 0, "cancelled": 1, "redirected": 2, "refused": 3, "agreed": 4}
"""`cancelled` is also concluded, of tasks that an approval which has ended leaves open: a decision that
is reported later is stronger."""


def is_ended(state: str) -> bool:
    """Whether an approval of this state will not move any more, but for its deletion."""
    return state != RUNNING


def merge(
    row: Mapping[Any, Any],
    tasks: Sequence[Mapping[Any, Any]],
    report: ApprovalChange,
    *,
    at: datetime,
    looks: Sequence[timedelta],
) -> tuple[ApprovalState | None, list[ApprovalTask], dict[str, Any]]:
    """The changes that a report makes to an approval.

    Args:
        row: the approval as it is known, by column.
        tasks: its tasks, by column.
        report: what was reported.
        at: when, by Redis's clock; for a look-up, when it began.
        looks: for how long nothing may be reported before the first look-up, the second …

    Returns:
        The new state, or None if it is the one from before; the tasks that are new or stand
        differently; and the columns of the approval's row to write.
    """
    tasks_by_id = {task["task"]: task for task in tasks}
    state = report.state
    if state is None or _rank(state, report.source) <= _rank(row["state"], row["source"]):
        state = None
    ended = is_ended(state or row["state"])
    news = [
        replace(task, since=before["since"] or task.since) if before else task
        for task in report.tasks
        if (before := tasks_by_id.get(task.id)) is None or _outranks(task.state, before["state"])
    ]
    if is_ended(row["state"]):
        news = [task for task in news if task.state != RUNNING]  # no approver is awaited any more
    open_tasks = _left_open(tasks_by_id, news, report) if ended else []
    if report.state == "deleted" or (report.source == "look" and report.state != RUNNING):
        news, open_tasks = [*(task for task in news if task.state != RUNNING), *open_tasks], []
    look = row["looks"] + (report.source == "look")
    values: dict[str, Any] = {"looks": look, **_details(row, report)}
    if state:
        values |= {"state": state, "source": report.source}
    if ended and (not row["finished_at"] or (state and report.finished)):
        values["finished_at"] = report.finished or row["finished_at"] or at
    if state or news or values.keys() - {"looks"}:
        values["changed_at"] = at
    if not ended:
        values["look_at"] = at + looks[min(look, len(looks) - 1)]
    else:
        values["look_at"] = _last_look(row, report, at, looks) if open_tasks else None
    return state, news, values


def _last_look(
    row: Mapping[Any, Any], report: ApprovalChange, at: datetime, looks: Sequence[timedelta]
) -> datetime | None:
    """When to ask how the open tasks ended, of an approval that has; `row` is from before.

    Where DingTalk contradicts itself and shows them open, the pauses grow with the time since the
    approval last changed, and after the longest one it is asked no more.
    """
    if not is_ended(row["state"]):
        return at + looks[0]
    if report.source == "event":
        look_at: datetime | None = row["look_at"]
        return look_at
    pause = min((pause for pause in looks if pause > at - row["changed_at"]), default=None)
    return None if pause is None else at + pause


def _rank(state: str, source: str) -> int:
    return _DELETED[source] if state == "deleted" else _RANKS[state]


def _outranks(task: str, earlier: str) -> bool:
    return _TASK_RANKS[task] > _TASK_RANKS[earlier]


def _left_open(
    rows: Mapping[str, Mapping[Any, Any]], news: Sequence[ApprovalTask], report: ApprovalChange
) -> list[ApprovalTask]:
    """Tasks that an approval which has ended leaves open, as they are if they were not decided.

    A decision has an event of its own, which may come later.
    """
    tasks = {
        row["task"]: ApprovalTask(
            id=row["task"], user=row["user"], state=row["state"], since=row["since"]
        )
        for row in rows.values()
    } | {task.id: task for task in news}
    return [
        ApprovalTask(
            id=task.id, user=task.user, state="cancelled", since=task.since, ended=report.finished
        )
        for task in tasks.values()
        if task.state == RUNNING
    ]


def _details(row: Mapping[Any, Any], report: ApprovalChange) -> dict[str, Any]:
    """Fields beside the state that are reported for the first time."""
    details = {
        "template": report.template,
        "originator": report.originator,
        "title": report.title,
        "business_id": report.business_id,
        "link": report.link,
        "created_at": report.created,
    }
    return {name: value for name, value in details.items() if value and not row[name]}
