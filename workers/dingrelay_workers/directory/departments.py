"""The tree of departments."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.store import clock
from dingrelay_tasks.organisation import Department
from dingrelay_workers.database.database import chunks, insert_missing, rows_among, upsert
from dingrelay_workers.dingtalk.contact_fields import DEPARTMENT_FIELDS
from dingrelay_workers.directory import notices, runs
from dingrelay_workers.directory.models import (
    Change,
    ChangeEvent,
    DepartmentRow,
    RunDepartmentRow,
    RunRow,
)
from dingrelay_workers.directory.order import HeldAnswer, is_newer, is_not_newer
from dingrelay_workers.directory.runs import Run

LISTED = frozenset({"name", "parent_id", "create_dept_group", "auto_add_user", "source_identifier"})
"""Fields in a list of departments (API §3.1, §3.2)."""
DETAILS = DEPARTMENT_FIELDS.keys() - LISTED
"""Fields only in a department's own answer."""


def _change(before: Mapping[str, Any], fields: Mapping[str, Any]) -> Change | None:
    """The change that `fields` makes to a department; a field that becomes known is no change.

    One of which nothing was known, but its number, is added.
    """
    if fields and not before:
        return Change(ChangeEvent.ADDED)
    changed = {name for name, value in fields.items() if before.get(name, value) != value}
    return Change(ChangeEvent.CHANGED, changed) if changed else None


async def put(run: Run, departments: Iterable[Department]) -> None:
    """Write the given fields of the departments; other fields stay as they are.

    One that was found to be gone since it was read stays so.
    """
    by_id = {department.id: department for department in departments}
    rows_by_id = await _known(run.connection, run.app, by_id)
    rows: list[dict[str, Any]] = []
    changes: dict[int, Change] = {}
    for number, department in by_id.items():
        row = rows_by_id.get(number)
        if row is not None and row.left_at is not None and is_newer(row.read_at, run):
            continue
        before = HeldAnswer(row.fields, row.read_at, row.detailed_at) if row else HeldAnswer()
        fields = before.taken(department.fields, run, DETAILS)
        now = before.after(fields, run, DETAILS)
        is_present = row is not None and row.left_at is None
        if change := _change(before.fields if is_present else {}, fields):
            changes[number] = change
        rows.append(
            {
                "app": run.app,
                "id": number,
                "parent": fields.get("parent_id", row.parent if row else None),
                "name": now.fields.get("name"),
                "fields": dict(now.fields),
                "met_in": max(run.number, row.met_in if row else 0),
                "left_at": None,
                "read_at": now.read_at,
                "detailed_at": now.detailed_at,
            }
        )
    await upsert(run.connection, DepartmentRow, rows)
    await notices.write(run.connection, run.app, DepartmentRow.id, changes, clock.now())


async def mention(run: Run, departments: Collection[int]) -> None:
    """Note departments that appear in a membership, without any other field."""
    rows = [
        {"app": run.app, "id": number, "fields": {}, "met_in": run.number} for number in departments
    ]
    await insert_missing(run.connection, DepartmentRow, rows)
    await runs.keep(run, DepartmentRow.id, departments)


async def put_children(run: Run, department: Department, children: Iterable[Department]) -> None:
    """Write a department and all that are directly below it.

    One that was below it and is missing now is cut off: if it moved, its new parent lists it.
    """
    below = [
        Department(child.id, {**child.fields, "parent_id": department.id}) for child in children
    ]
    await put(run, [department, *below])
    children_before = await run.connection.scalars(
        select(DepartmentRow.id)
        .where(DepartmentRow.app == run.app, DepartmentRow.parent == department.id)
        .where(is_not_newer(DepartmentRow.read_at, run))
    )
    for batch in chunks(set(children_before) - {child.id for child in below}):
        await run.update(DepartmentRow, DepartmentRow.id.in_(batch), parent=None)


async def remove(run: Run, departments: Collection[int], at: datetime) -> None:
    """The departments no longer exist. Where their members are now is to be asked: they stay until then.

    Of one that was not known a row is made, too: what was read before this may still be to be written.
    """
    for batch in chunks(departments):
        rows = [
            {
                "app": run.app,
                "id": number,
                "fields": {},
                "met_in": run.number,
                "left_at": at,
                "read_at": run.read_at,
            }
            for number in batch
        ]
        await insert_missing(run.connection, DepartmentRow, rows)
        older = DepartmentRow.id.in_(batch), is_not_newer(DepartmentRow.read_at, run)
        ids = await run.connection.scalars(
            select(DepartmentRow.id).where(
                DepartmentRow.app == run.app, *older, DepartmentRow.left_at.is_(None)
            )
        )
        removed = {number: Change(ChangeEvent.REMOVED) for number in ids}
        await run.update(DepartmentRow, *older, read_at=run.read_at)
        await run.update(DepartmentRow, DepartmentRow.id.in_(list(removed)), left_at=at)
        await notices.write(run.connection, run.app, DepartmentRow.id, removed, at)


async def unknown_departments(
    connection: AsyncConnection, app: str, run: str, departments: Collection[int]
) -> list[int]:
    """The departments of which nothing but the id was known before the run.

    Also those that were known to be gone.
    """
    read_departments = await connection.scalars(
        select(RunDepartmentRow.department)
        .join(RunRow, RunRow.number == RunDepartmentRow.number)
        .where(RunRow.app == app, RunRow.run == run)
    )
    read_by_it = set(read_departments)
    rows = await _known(connection, app, departments)
    return sorted(
        number
        for number in set(departments)
        if number in read_by_it
        or (row := rows.get(number)) is None
        or row.left_at is not None
        or not row.fields
    )


def tree(app: str, departments: Collection[int]) -> Select[int]:
    """The departments and all below them; none for one that is not there.

    A department that moved during a walk may stand in a circle until the next one: `UNION` takes each once.
    """
    present = select(DepartmentRow.id).where(DepartmentRow.present(app))
    subtree = present.where(DepartmentRow.id.in_(departments)).cte(recursive=True)
    return select(subtree.union(present.where(DepartmentRow.parent == subtree.c.id)).c.id)


async def _known(
    connection: AsyncConnection, app: str, ids: Collection[int]
) -> dict[int, Row[Any]]:
    """The rows of those that are known."""
    query = select(DepartmentRow.__table__).where(DepartmentRow.app == app)
    return {row.id: row for row in await rows_among(connection, query, DepartmentRow.id, ids)}
