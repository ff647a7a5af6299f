"""Notices of approvals: their decisions, and their tasks for approvers."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import ApprovalTask
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice, id_of

_SHOWN = ("instance", "job", "template", "originator", "title", "business_id", "link", "state")
"""Columns that say which approval it is; what stands in its form is not kept."""


async def write(
    connection: AsyncConnection,
    row: RowMapping,
    state: str | None,
    tasks: Sequence[ApprovalTask],
    at: datetime,
) -> None:
    """Write notices of an approval whose row is written already.

    Args:
        connection: of the transaction that wrote it.
        row: as it is now.
        state: the state that is new; None if it is the one from before.
        tasks: those that are new or stand differently.
        at: when that was received.
    """
    notices = [_notice(row, "task", at, task.id, task.state, task=_task(task)) for task in tasks]
    if state:
        notices.append(_notice(row, state, at))
    await outbox.write(connection, notices, amend=True)


def _notice(row: RowMapping, what: str, at: datetime, *which: str, **more: Any) -> Notice:
    return Notice(
        # The same for each app of an organisation, and where a crash or its job has it written again.
        id=id_of("approval", row["instance"], what, *which),
        type=f"approval.{what}",
        app=row["app"],
        at=at,
        sender=row["sender"],
        kind="approval-create" if row["job"] else "",
        data={
            **{name: row[name] for name in _SHOWN},
            "finished_at": row["finished_at"] and row["finished_at"].isoformat(),
            **more,
        },
    )


def _task(task: ApprovalTask) -> dict[str, Any]:
    return {"id": task.id, "user": task.user, "state": task.state}
