"""The tree of departments."""

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.context import Department
from dingrelay_workers.database.database import chunks, upsert
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow
from dingrelay_workers.directory.runs import Run


async def put(connection: AsyncConnection, run: Run, departments: Iterable[Department]) -> None:
    """Write what is told of the departments; what is not told stays as it is known."""
    told = {department.id: department for department in departments}
    known = await _known(connection, run.app, told)
    rows: list[dict[str, Any]] = []
    for number, department in told.items():
        fields, met_in = known.get(number, ({}, 0))
        merged = {**fields, **department.fields}
        rows.append(
            {
                "app": run.app,
                "id": number,
                "parent": merged.get("parent_id"),
                "name": merged.get("name"),
                "fields": merged,
                "met_in": max(run.number, met_in),
                "left_at": None,
            }
        )
    await upsert(connection, DepartmentRow, rows)


async def put_children(
    connection: AsyncConnection, run: Run, department: Department, children: Iterable[Department]
) -> None:
    """Write a department and all that are directly below it.

    One that was below it and is not told now is cut off: if it moved, its new parent tells of it.
    """
    below = [
        Department(child.id, {**child.fields, "parent_id": department.id}) for child in children
    ]
    await put(connection, run, [department, *below])
    await connection.execute(
        update(DepartmentRow)
        .where(DepartmentRow.app == run.app, DepartmentRow.parent == department.id)
        .where(DepartmentRow.met_in < run.number)
        .values(parent=None)
    )


async def remove(
    connection: AsyncConnection, run: Run, departments: Collection[int], at: datetime
) -> None:
    """The departments no longer exist; nobody is in them."""
    for some in chunks(departments):
        await connection.execute(
            update(DepartmentRow)
            .where(DepartmentRow.app == run.app, DepartmentRow.id.in_(some))
            .values(left_at=at)
        )
        await connection.execute(
            delete(MembershipRow).where(
                MembershipRow.app == run.app, MembershipRow.department.in_(some)
            )
        )


async def not_met(connection: AsyncConnection, run: Run, most: int) -> list[int]:
    """Departments that neither the run nor a newer one met."""
    found = await connection.scalars(
        select(DepartmentRow.id)
        .where(
            DepartmentRow.app == run.app,
            DepartmentRow.left_at.is_(None),
            DepartmentRow.met_in < run.number,
        )
        .order_by(DepartmentRow.id)
        .limit(most)
    )
    return list(found)


async def keep(connection: AsyncConnection, run: Run, departments: Collection[int]) -> None:
    """Count the departments as met, though nothing is told of them."""
    for some in chunks(departments):
        await connection.execute(
            update(DepartmentRow)
            .where(DepartmentRow.app == run.app, DepartmentRow.id.in_(some))
            .where(DepartmentRow.met_in < run.number)
            .values(met_in=run.number)
        )


async def tree(connection: AsyncConnection, app: str, department: int) -> list[int]:
    """The department and all below it; empty if there is no such department."""
    children: dict[int | None, list[int]] = {}
    rows = await connection.execute(
        select(DepartmentRow.id, DepartmentRow.parent).where(
            DepartmentRow.app == app, DepartmentRow.left_at.is_(None)
        )
    )
    known: set[int] = set()
    for row in rows:
        known.add(row.id)
        children.setdefault(row.parent, []).append(row.id)
    found: set[int] = set()
    ahead = [department] if department in known else []
    while ahead:
        number = ahead.pop()
        # A department that moved during a walk may stand in a circle until the next one.
        if number not in found:
            found.add(number)
            ahead += children.get(number, [])
    return sorted(found)


async def _known(
    connection: AsyncConnection, app: str, ids: Collection[int]
) -> dict[int, tuple[dict[str, Any], int]]:
    """Fields and `met_in` of those that are known."""
    known: dict[int, tuple[dict[str, Any], int]] = {}
    for some in chunks(ids):
        rows = await connection.execute(
            select(DepartmentRow.id, DepartmentRow.fields, DepartmentRow.met_in).where(
                DepartmentRow.app == app, DepartmentRow.id.in_(some)
            )
        )
        known.update({row.id: (row.fields, row.met_in) for row in rows})
    return known
