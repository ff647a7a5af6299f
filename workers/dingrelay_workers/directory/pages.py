"""The directory a page at a time, for the HTTP gateway."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.gateway.backend.directory_reader import DepartmentEntry, Person
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.directory.departments import tree
from dingrelay_workers.directory.models import DepartmentRow, MembershipRow, UserRow

PATIENCE = 1.8
"""Seconds that a request waits for the database."""


class DirectoryPages:
    """A `dingrelay_producers.gateway.backend.directory_reader.DirectoryReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def users(
        self, app: str, *, department: int | None, left: bool, after: str | None, limit: int
    ) -> Sequence[Person]:
        """People by userid, after one of them."""
        query = select(UserRow.userid, UserRow.name, UserRow.fields, UserRow.left_at)
        query = query.where(UserRow.app == app).order_by(UserRow.userid).limit(limit)
        query = query.where(UserRow.left_at.is_not(None) if left else UserRow.left_at.is_(None))
        if after is not None:
            query = query.where(UserRow.userid > after)
        async with self._reading() as connection:
            if department is not None:
                inside = select(MembershipRow.userid).where(
                    MembershipRow.app == app,
                    MembershipRow.department.in_(await tree(connection, app, department)),
                )
                query = query.where(UserRow.userid.in_(inside))
            rows = (await connection.execute(query)).all()
            of = await _departments(connection, app, [row.userid for row in rows])
        return [
            Person(
                userid=row.userid,
                name=row.name,
                departments=of[row.userid],
                fields=row.fields,
                left_at=row.left_at,
            )
            for row in rows
        ]

    async def departments(
        self, app: str, *, parent: int | None, after: int | None, limit: int
    ) -> Sequence[DepartmentEntry]:
        """Departments that exist by id, after one of them."""
        query = select(
            DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent, DepartmentRow.fields
        ).where(DepartmentRow.app == app, DepartmentRow.left_at.is_(None))
        if parent is not None:
            query = query.where(DepartmentRow.parent == parent)
        if after is not None:
            query = query.where(DepartmentRow.id > after)
        async with self._reading() as connection:
            rows = await connection.execute(query.order_by(DepartmentRow.id).limit(limit))
            return [
                DepartmentEntry(id=row.id, name=row.name, parent=row.parent, fields=row.fields)
                for row in rows
            ]

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        """A connection, for a while.

        Raises:
            ServiceUnavailable: the database is away.
        """
        async with answering(PATIENCE), self._database.read() as connection:
            yield connection


async def _departments(
    connection: AsyncConnection, app: str, userids: Sequence[str]
) -> dict[str, list[int]]:
    """The departments of a page of people."""
    query = select(MembershipRow.userid, MembershipRow.department).where(
        MembershipRow.app == app, MembershipRow.userid.in_(userids)
    )
    found: dict[str, list[int]] = defaultdict(list)
    for row in await connection.execute(query.order_by(MembershipRow.department)):
        found[row.userid].append(row.department)
    return found
