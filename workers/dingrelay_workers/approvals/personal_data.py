"""A person in approvals: as originator, or as approver."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, exists, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.approvals.merge import is_ended
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.approvals.store import writer_of
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every approval of theirs, or that they were asked to decide, with these tasks."""
    approvals: list[dict[str, Any]] = []
    async with stores.database.read() as connection:
        for row in (await connection.execute(_theirs(subject))).mappings().all():
            tasks = await connection.execute(
                select(ApprovalTaskRow.task, ApprovalTaskRow.state, ApprovalTaskRow.since).where(
                    *_of(row), ApprovalTaskRow.user == subject.user
                )
            )
            approvals.append({**row, "tasks": [dict(task) for task in tasks.mappings()]})
    return approvals


async def instances_of(
    connection: AsyncConnection, subject: DataSubject, tombstones: Sequence[str]
) -> frozenset[str]:
    """The ids of the approvals that they asked for."""
    query = select(ApprovalRow.instance).where(
        ApprovalRow.originator.in_([subject.user, *tombstones])
    )
    return frozenset(await connection.scalars(subject.among(query, ApprovalRow.app)))


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take the person out of approvals that have ended; who decides is needed until then."""
    async with stores.database.read() as connection:
        query = _theirs(erasing).where(ApprovalRow.known_at <= erasing.since)
        rows = (await connection.execute(query)).mappings().all()
    for row in rows:
        if not is_ended(row["state"]) or row["look_at"] is not None:
            erasing.leave(
                "approvals",
                row["instance"],
                en("the approval, or the task of an approver, has not ended"),
            )
            continue
        async with stores.database.write(writer_of(row["app"])) as connection:
            await _erase_one(connection, row, erasing)
        erasing.changed["approvals"] += 1


async def _erase_one(connection: AsyncConnection, row: Any, erasing: Erasing) -> None:
    if row["originator"] == erasing.user:
        of_approval = ApprovalRow.app == row["app"], ApprovalRow.instance == row["instance"]
        # DingTalk's title of an approval begins with the originator's name. An empty title would be
        # filled in again by a later event of the approval.
        values = {"originator": erasing.tombstone, "title": erasing.tombstone}
        await change_rows(connection, ApprovalRow, *of_approval, **values)
    theirs = *_of(row), ApprovalTaskRow.user == erasing.user
    await change_rows(connection, ApprovalTaskRow, *theirs, user=erasing.tombstone)


def _theirs(subject: DataSubject) -> Select[Any]:
    decides = exists().where(
        ApprovalTaskRow.app == ApprovalRow.app,
        ApprovalTaskRow.instance == ApprovalRow.instance,
        ApprovalTaskRow.user == subject.user,
    )
    involves_person = or_(ApprovalRow.originator == subject.user, decides)
    query = (
        select(ApprovalRow.__table__).where(involves_person).order_by(ApprovalRow.known_at.desc())
    )
    approvals: Select[Any] = subject.among(query, ApprovalRow.app)
    return approvals


def _of(row: Any) -> tuple[Any, Any]:
    return (ApprovalTaskRow.app == row["app"], ApprovalTaskRow.instance == row["instance"])


PERSONAL_DATA = PersonalData(
    place="approvals",
    title=en("approvals"),
    tables=(ApprovalRow, ApprovalTaskRow),
    export=export,
    erase=erase,
    instances=instances_of,
)
