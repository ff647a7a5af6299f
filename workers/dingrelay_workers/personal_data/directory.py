"""A person in the directory: their row, their departments, their roles, and the changes that runs found.

Other rows name them, too: a department its manager, a person their superior. The next walk reads
that again, as long as it is so.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.directory.models import (
    ChangeRow,
    DepartmentRow,
    MembershipRow,
    RunRow,
    UserRow,
)
from dingrelay_workers.personal_data.subject import DataSubject, Erasing
from dingrelay_workers.roles.models import RoleRow

LONGEST_RUN = timedelta(days=1)
"""A run that was opened earlier and is not closed belongs to a job that ended without closing it."""


async def export(connection: AsyncConnection, subject: DataSubject) -> list[dict[str, Any]]:
    """The person as the directory of each app has them."""
    found: list[dict[str, Any]] = []
    for app in await _apps(connection, subject):
        row = await _row(connection, app, subject.user)
        memberships = await connection.execute(
            select(MembershipRow.department, MembershipRow.leader, DepartmentRow.name)
            .join(
                DepartmentRow,
                (DepartmentRow.app == MembershipRow.app)
                & (DepartmentRow.id == MembershipRow.department),
            )
            .where(MembershipRow.app == app, MembershipRow.userid == subject.user)
            .order_by(MembershipRow.department)
        )
        changes = await connection.execute(
            select(ChangeRow.at, ChangeRow.event, ChangeRow.fields)
            .where(ChangeRow.app == app, ChangeRow.userid == subject.user)
            .order_by(ChangeRow.at)
        )
        found.append(
            {
                "app": app,
                "name": row["name"] if row else None,
                "left_at": row["left_at"] if row else None,
                "fields": row["fields"] if row else {},
                "departments": [
                    {"id": each.department, "name": each.name, "leader": each.leader}
                    for each in memberships
                ],
                "changes": [dict(each) for each in changes.mappings()],
                "roles": list(await connection.scalars(_roles(app, subject.user))),
                "named_by": await _named_by(connection, app, subject),
            }
        )
    return found


async def erase(database: Database, erasing: Erasing) -> None:
    """Take the person out; who belongs to the organisation comes back with the next walk or event."""
    async with database.read() as connection:
        apps = await _apps(connection, erasing)
    for app in apps:
        async with database.write(app) as connection:
            if await _erase_row(connection, app, erasing):
                erasing.returned.add(app)
            await _erase_changes(connection, app, erasing)
            own = RoleRow.directory == app, RoleRow.subject == erasing.user
            await connection.execute(delete(RoleRow).where(*own))
            for key in (DepartmentRow.id, UserRow.userid):
                await _erase_names(connection, key, app, erasing)


async def _apps(connection: AsyncConnection, subject: DataSubject) -> list[str]:
    """The apps in whose directories the person may be named."""
    apps: set[str] = set()
    for app in (UserRow.app, DepartmentRow.app, ChangeRow.app, RoleRow.directory):
        apps |= set(await connection.scalars(subject.among(select(app), app).distinct()))
    return [app for app in sorted(apps) if await _has(connection, app, subject)]


async def _has(connection: AsyncConnection, app: str, subject: DataSubject) -> bool:
    if await _row(connection, app, subject.user) is not None:
        return True
    changed = select(ChangeRow.number).where(ChangeRow.app == app, ChangeRow.userid == subject.user)
    for query in (changed, _roles(app, subject.user)):
        if await connection.scalar(query.limit(1)) is not None:
            return True
    return any((await _named_by(connection, app, subject)).values())


def _roles(app: str, user: str) -> Select[Any]:
    return select(RoleRow.role).where(RoleRow.directory == app, RoleRow.subject == user)


async def _row(connection: AsyncConnection, app: str, user: str) -> Any:
    query = select(UserRow.__table__).where(UserRow.app == app, UserRow.userid == user)
    return (await connection.execute(query)).mappings().one_or_none()


async def _named_by(
    connection: AsyncConnection, app: str, subject: DataSubject
) -> dict[str, list[Any]]:
    """The departments and people whose fields name the person."""
    departments = await _naming(connection, DepartmentRow.id, app, subject)
    people = await _naming(connection, UserRow.userid, app, subject)
    return {
        "departments": sorted(row.key for row in departments),
        "people": sorted(row.key for row in people if row.key != subject.user),
    }


async def _naming(
    connection: AsyncConnection,
    key: InstrumentedAttribute[Any],
    app: str,
    subject: DataSubject,
) -> list[Any]:
    """The rows of this key, of an app, whose fields name the person."""
    table: Any = key.class_
    query = select(key.label("key"), table.fields, table.read_at)
    query = query.where(table.app == app, subject.named_in(table.fields))
    return [row for row in await connection.execute(query) if subject.is_in(row.fields)]


async def _erase_row(connection: AsyncConnection, app: str, erasing: Erasing) -> bool:
    """Delete the row and with it the memberships; whether it comes back, or has by now."""
    row = await _row(connection, app, erasing.user)
    if row is None:
        return False
    if row["read_at"] > erasing.since.timestamp() * 1000:
        return True  # read from DingTalk since
    for table in (MembershipRow, UserRow):
        await connection.execute(
            delete(table).where(table.app == app, table.userid == erasing.user)
        )
    erasing.changed["directory"] += 1
    return row["left_at"] is None


async def _erase_changes(connection: AsyncConnection, app: str, erasing: Erasing) -> None:
    """Keep the changes that runs found, without the person; a run under way needs their userid."""
    ours = (ChangeRow.app == app, ChangeRow.userid == erasing.user, ChangeRow.at <= erasing.since)
    under_way = (
        RunRow.app == app,
        RunRow.closed_at.is_(None),
        RunRow.opened_at > erasing.now - LONGEST_RUN,
        RunRow.opened_at <= erasing.since,
    )
    for run in await connection.scalars(select(RunRow.run).where(*under_way)):
        erasing.leave(
            "directory", run, en("a user-sync is under way, which may have read of them before")
        )
    running = select(RunRow.number).where(*under_way).scalar_subquery()
    ended = *ours, ChangeRow.number.not_in(running)
    changed = await change_rows(connection, ChangeRow, *ended, userid=erasing.tombstone)
    erasing.changed["directory"] += changed


async def _erase_names(
    connection: AsyncConnection, key: InstrumentedAttribute[Any], app: str, erasing: Erasing
) -> None:
    """Take them out of what others' fields tell, as far as that was read before."""
    table: Any = key.class_
    for row in await _naming(connection, key, app, erasing):
        if row.read_at <= erasing.since.timestamp() * 1000:
            fields = erasing.without(row.fields)
            await change_rows(connection, table, table.app == app, key == row.key, fields=fields)
            erasing.changed["directory"] += 1
