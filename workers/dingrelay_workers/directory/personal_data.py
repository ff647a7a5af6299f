"""A person in the directory: their row, their departments, and the changes that runs found.

Other rows name them, too: a department its manager, a person their superior. The next walk reads
that again, as long as it is so.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.directory.models import (
    ChangeRow,
    DepartmentRow,
    MembershipRow,
    OmittedFieldRow,
    RunRow,
    UserRow,
)
from dingrelay_workers.subjects import (
    DataSubject,
    Erasing,
    PersonalData,
    Rows,
    Stores,
    rename_in_rows,
    rows_of,
)

LONGEST_RUN = timedelta(days=1)
"""A run that was opened earlier and is not closed belongs to a job that ended without closing it."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """The person as the directory of each app has them."""
    async with stores.database.read() as connection:
        return [
            await _export_app(connection, app, subject) for app in await _apps(connection, subject)
        ]


async def _export_app(
    connection: AsyncConnection, app: str, subject: DataSubject
) -> dict[str, Any]:
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
    departments = await rows_of(connection, DepartmentRow, subject, DepartmentRow.app == app)
    people = await _others(connection, app, subject)
    return {
        "app": app,
        "name": row["name"] if row else None,
        "left_at": row["left_at"] if row else None,
        "fields": row["fields"] if row else {},
        "departments": [
            {"id": membership.department, "name": membership.name, "leader": membership.leader}
            for membership in memberships
        ],
        "changes": [dict(change) for change in changes.mappings()],
        "named_by": {
            "departments": sorted(row["id"] for row in departments),
            "people": sorted(row["userid"] for row in people),
        },
    }


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take the person out; who belongs to the organisation comes back with the next walk or event."""
    async with stores.database.read() as connection:
        apps = await _apps(connection, erasing)
    for app in apps:
        async with stores.database.write(app) as connection:
            if await _erase_row(connection, app, erasing):
                erasing.returned.add(app)
            await _erase_changes(connection, app, erasing)
            departments = await rows_of(
                connection, DepartmentRow, erasing, DepartmentRow.app == app
            )
            await _erase_names(connection, DepartmentRow, departments, erasing)
            await _erase_names(
                connection, UserRow, await _others(connection, app, erasing), erasing
            )


async def _apps(connection: AsyncConnection, subject: DataSubject) -> list[str]:
    """The apps in whose directories the person is named."""
    apps: set[str] = set()
    for table in (UserRow, DepartmentRow, ChangeRow):
        rows = await rows_of(connection, table, subject, app=table.app)
        apps |= {row["app"] for row in rows}
    return sorted(apps)


async def _row(connection: AsyncConnection, app: str, user: str) -> Any:
    query = select(UserRow.__table__).where(UserRow.app == app, UserRow.userid == user)
    return (await connection.execute(query)).mappings().one_or_none()


async def _others(
    connection: AsyncConnection, app: str, subject: DataSubject
) -> list[dict[str, Any]]:
    """The rows of other people whose fields name the person."""
    other_people = UserRow.app == app, UserRow.userid != subject.user
    return await rows_of(connection, UserRow, subject, *other_people)


async def _erase_row(connection: AsyncConnection, app: str, erasing: Erasing) -> bool:
    """Delete the row and with it the memberships; whether it comes back, or has by now."""
    row = await _row(connection, app, erasing.user)
    if row is None:
        return False
    if row["read_at"] > erasing.since.timestamp() * 1000:
        return True  # read from DingTalk since
    if app in erasing.looked_up:
        reason = en("a list that may name them by an address or a name is left")
        erasing.leave("directory", app, reason)
        return row["left_at"] is None
    for table in (MembershipRow, OmittedFieldRow, UserRow):
        await connection.execute(
            delete(table).where(table.app == app, table.userid == erasing.user)
        )
    erasing.changed["directory"] += 1
    return row["left_at"] is None


async def _erase_changes(connection: AsyncConnection, app: str, erasing: Erasing) -> None:
    """Keep the changes that runs found, without the person; a run under way needs their userid."""
    of_person = (
        ChangeRow.app == app,
        ChangeRow.userid == erasing.user,
        ChangeRow.at <= erasing.since,
    )
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
    ended = *of_person, ChangeRow.number.not_in(running)
    changed = await change_rows(connection, ChangeRow, *ended, userid=erasing.tombstone)
    erasing.changed["directory"] += changed


async def _erase_names(
    connection: AsyncConnection, table: Any, rows: list[dict[str, Any]], erasing: Erasing
) -> None:
    """Take them out of what others' fields tell, as far as that was read before."""
    since = erasing.since.timestamp() * 1000
    old = [row for row in rows if row["read_at"] <= since]
    erasing.changed["directory"] += await rename_in_rows(connection, table, old, erasing)


PERSONAL_DATA = PersonalData(
    place="directory",
    title=en("directory"),
    tables=(UserRow, MembershipRow, OmittedFieldRow, DepartmentRow, ChangeRow),
    export=export,
    erase=erase,
)
