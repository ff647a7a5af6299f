"""Reads the people below a department, or everyone, in pages, however many they are.

People who left have no memberships, and a department that is gone has no members, so the people
below a department are found in the memberships alone.
"""

from collections.abc import AsyncIterable, AsyncIterator, Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.personal_data import is_tombstone
from dingrelay_workers.database.database import Database, rows_among
from dingrelay_workers.directory.departments import tree
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, RunRow, UserRow

PAGE = 1_000
"""Userids a query."""


async def below(database: Database, app: str, department: int) -> AsyncIterator[list[str]]:
    """The userids of a department and all departments below it, each once, in order."""
    inside = MembershipRow.app == app, MembershipRow.department.in_(tree(app, [department]))
    query = select(MembershipRow.userid).where(*inside).distinct()
    async for rows in database.pages(query, MembershipRow.userid, PAGE):
        yield [row.userid for row in rows]


async def everyone(database: Database, app: str) -> AsyncIterator[list[str]]:
    """The userids of all who have not left, in order."""
    query = select(UserRow.userid).where(*_here(app))
    async for rows in database.pages(query, UserRow.userid, PAGE):
        yield [row.userid for row in rows]


async def was_synced(database: Database, app: str) -> bool:
    """Whether the whole directory of an app was ever read."""
    async with database.read() as connection:
        return await _was_read(connection, RunRow.app == app)


async def count_absent(
    database: Database, app: str, pages: AsyncIterable[Sequence[str]]
) -> int | None:
    """How many of these people are not in the directory; None if that was never read as a whole."""
    if not await was_synced(database, app):
        return None
    absent = 0
    async for page in pages:
        async with database.read() as connection:
            query = select(UserRow.userid).where(*_here(app))
            absent += len(page) - len(await rows_among(connection, query, UserRow.userid, page))
    return absent


async def left_users(database: Database, app: str, userids: Collection[str]) -> set[str]:
    """The people among these who are known to have left."""
    query = select(UserRow.userid).where(UserRow.app == app, UserRow.left_at.is_not(None))
    async with database.read() as connection:
        return {user for (user,) in await rows_among(connection, query, UserRow.userid, userids)}


async def who_is_absent(connection: AsyncConnection, users: Collection[str]) -> set[str]:
    """The users among these that no directory has now, where one had them or was ever read as a whole.

    A directory forgets who left long ago (`[sync] keep_left`), so that a missing row is no proof that they are there.
    A tombstone is absent in any case.
    """
    query = select(UserRow.userid, UserRow.left_at)
    rows = await rows_among(connection, query, UserRow.userid, users)
    known = {row.userid for row in rows} | {*filter(is_tombstone, users)}
    if await _was_read(connection):
        known = {*users}
    return known - {row.userid for row in rows if row.left_at is None}


async def _was_read(connection: AsyncConnection, *where: ColumnElement[bool]) -> bool:
    """Whether a directory for which this holds was ever read as a whole."""
    complete = RunRow.scope == "everything", RunRow.closed_at.is_not(None)
    query = select(RunRow.number).where(*complete, *where).limit(1)
    return await connection.scalar(query) is not None


async def places(connection: AsyncConnection, app: str, userids: Collection[str]) -> dict[str, str]:
    """The names of the departments of people, by userid."""
    names: dict[str, str] = {}
    of_member = (
        DepartmentRow.app == MembershipRow.app,
        DepartmentRow.id == MembershipRow.department,
    )
    query = select(MembershipRow.userid, DepartmentRow.name).join(DepartmentRow, and_(*of_member))
    query = query.where(MembershipRow.app == app, DepartmentRow.name.is_not(None))
    for user, name in await rows_among(connection, query, MembershipRow.userid, userids):
        names[user] = f"{names[user]}/{name}" if user in names else str(name)
    return names


async def lines(
    connection: AsyncConnection, app: str, userids: Collection[str]
) -> dict[str, list[list[str]]]:
    """The departments of people, by userid: the name of each, and those of all above it."""
    query = select(MembershipRow.userid, MembershipRow.department).where(MembershipRow.app == app)
    members = await rows_among(connection, query, MembershipRow.userid, userids)
    if not members:
        return {}
    every = select(DepartmentRow.id, DepartmentRow.parent, DepartmentRow.name)
    departments = {
        row.id: (row.parent, row.name)
        for row in await connection.execute(every.where(DepartmentRow.present(app)))
    }
    lines_by_user: dict[str, list[list[str]]] = {}
    for user, department in members:
        line: dict[int | None, str] = {}
        at: int | None = department
        # One that moved during a walk may stand in a circle until the next one.
        while at in departments and at not in line:
            parent, name = departments[at]
            line[at] = name or ""
            at = parent
        lines_by_user.setdefault(user, []).append([*filter(None, line.values())])
    return lines_by_user


async def department_names(
    connection: AsyncConnection, app: str, names: Collection[str]
) -> set[str]:
    """The names among these that a department has."""
    query = select(DepartmentRow.name).where(DepartmentRow.present(app))
    return {str(name) for (name,) in await rows_among(connection, query, DepartmentRow.name, names)}


async def is_known(database: Database, app: str, department: int) -> bool:
    """Whether there is such a department."""
    async with database.read() as connection:
        return await connection.scalar(tree(app, [department]).limit(1)) is not None


async def fields(
    database: Database, app: str, userids: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Fields of these people, except those who have left, by userid."""
    query = select(UserRow.userid, UserRow.fields).where(*_here(app))
    async with database.read() as connection:
        rows = await rows_among(connection, query, UserRow.userid, userids)
        return {row.userid: row.fields for row in rows}


def _here(app: str) -> tuple[ColumnElement[bool], ...]:
    return UserRow.app == app, UserRow.left_at.is_(None)
