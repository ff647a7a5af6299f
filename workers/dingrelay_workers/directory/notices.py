"""Notices of the directory: people and departments that are new, changed or gone.

A notice names the person or department, and the fields that have another value; the values
themselves stay here, for readers with the permission.
"""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.database import chunks
from dingrelay_workers.directory.models import ChangeEvent, Changes, DepartmentRow, UserRow
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice

_OF_PEOPLE = {
    ChangeEvent.ADDED: "directory.user.added",
    ChangeEvent.CHANGED: "directory.user.changed",
    ChangeEvent.LEFT: "directory.user.left",
}
"""`GONE` has none: the notice is that of `LEFT`, once the person is marked as left."""


class DepartmentChange(NamedTuple):
    """A change of a department, with its fields if it only changed."""

    what: str
    """`added`, `changed` or `removed`."""
    fields: Collection[str] = ()


async def write_people(
    connection: AsyncConnection, app: str, changes: Changes, at: datetime
) -> None:
    """Write notices of people whose rows are written already."""
    of_people = {userid: change for userid, change in changes.items() if change.event in _OF_PEOPLE}
    if not of_people or not await outbox.has_readers(connection):
        return
    names: dict[str, str | None] = {}
    for some in chunks(of_people):
        rows = await connection.execute(
            select(UserRow.userid, UserRow.name).where(UserRow.app == app, UserRow.userid.in_(some))
        )
        names |= {row.userid: row.name for row in rows}
    await outbox.write(
        connection,
        [
            Notice(
                type=_OF_PEOPLE[change.event],
                app=app,
                at=at,
                data={
                    "userid": userid,
                    "name": names.get(userid),
                    **_changed(change.event == ChangeEvent.CHANGED, change.fields),
                },
            )
            for userid, change in of_people.items()
        ],
    )


async def write_departments(
    connection: AsyncConnection, app: str, changes: Mapping[int, DepartmentChange], at: datetime
) -> None:
    """Write notices of departments whose rows are written already."""
    if not changes or not await outbox.has_readers(connection):
        return
    known: dict[int, tuple[str | None, int | None]] = {}
    for some in chunks(changes):
        rows = await connection.execute(
            select(DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent).where(
                DepartmentRow.app == app, DepartmentRow.id.in_(some)
            )
        )
        known |= {row.id: (row.name, row.parent) for row in rows}
    notices: list[Notice] = []
    for number, change in changes.items():
        name, parent = known.get(number, (None, None))
        notices.append(
            Notice(
                type=f"directory.department.{change.what}",
                app=app,
                at=at,
                data={
                    "id": number,
                    "name": name,
                    "parent": parent,
                    **_changed(change.what == "changed", change.fields),
                },
            )
        )
    await outbox.write(connection, notices)


def _changed(only: bool, fields: Collection[str]) -> dict[str, Any]:
    return {"changed": sorted(fields)} if only else {}
