"""Approvals as the clients of `dingrelay_producers` read them."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import RowMapping, Select, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.approval_backend import (
    ApprovalPage,
    ApprovalStatus,
    ApprovalTaskStatus,
)
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.settings import Settings
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import answering, refuse_missing
from dingrelay_workers.database.schema import migrate

PATIENCE = 1.8
"""Seconds that a request waits for the database."""


class ApprovalPages:
    """The stored approvals, on an open database.

    Args:
        database: with its tables.
        patience: seconds that a question waits for it; None for as long as it takes.
    """

    def __init__(self, database: Database, *, patience: float | None = PATIENCE) -> None:
        self._database = database
        self._patience = patience

    async def get(self, app: str, instance: str) -> ApprovalStatus | None:
        """An approval; None if it is not followed."""
        query = select(ApprovalRow.__table__).where(
            ApprovalRow.app == app, ApprovalRow.instance == instance
        )
        async with self._reading() as connection:
            found = await _read(connection, query)
        return found[0] if found else None

    async def list(self, chosen: ApprovalFilter, *, limit: int) -> ApprovalPage:
        """Approvals, the latest first."""
        row = ApprovalRow
        query = _chosen(chosen).order_by(row.known_at.desc(), row.app, row.instance).limit(limit)
        if chosen.before:
            at, app, instance = chosen.before
            later = (row.app > app) | ((row.app == app) & (row.instance > instance))
            query = query.where((row.known_at < at) | ((row.known_at == at) & later))
        async with self._reading() as connection:
            found = await _read(connection, query)
        if len(found) < limit:
            return ApprovalPage(found, None)
        last = found[-1]
        return ApprovalPage(found, (last.known_since, last.app, last.instance))

    @asynccontextmanager
    async def _reading(self) -> AsyncGenerator[AsyncConnection]:
        """A connection, for a while.

        Raises:
            ServiceUnavailable: the database is away.
        """
        async with answering(self._patience), self._database.read() as connection:
            yield connection


class SqlApprovals:
    """The stored approvals for a client, whose connections are opened for each call.

    The caller's event loop lives no longer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def get(self, app: str, instance: str) -> ApprovalStatus | None:
        """An approval; None if it is not followed."""
        async with self._opened() as pages:
            return await pages.get(app, instance)

    async def list(self, chosen: ApprovalFilter, *, limit: int) -> ApprovalPage:
        """Approvals, the latest first."""
        async with self._opened() as pages:
            return await pages.list(chosen, limit=limit)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[ApprovalPages]:
        refuse_missing(self._settings.database)
        await asyncio.to_thread(migrate, self._settings)
        database = Database(self._settings.database)
        try:
            yield ApprovalPages(database, patience=None)
        finally:
            await database.dispose()


def _chosen(chosen: ApprovalFilter) -> Select[Any]:
    query = select(ApprovalRow.__table__)
    for column, value in (
        (ApprovalRow.app, chosen.app),
        (ApprovalRow.state, chosen.state),
        (ApprovalRow.template, chosen.template),
        (ApprovalRow.originator, chosen.originator),
        (ApprovalRow.sender, chosen.sender),
    ):
        if value is not None:
            query = query.where(column == value)
    if chosen.apps is not None:
        query = query.where(ApprovalRow.app.in_(chosen.apps))
    if chosen.waits_for is not None:
        query = query.where(
            ApprovalRow.state == "running",
            exists().where(
                ApprovalTaskRow.app == ApprovalRow.app,
                ApprovalTaskRow.instance == ApprovalRow.instance,
                ApprovalTaskRow.user == chosen.waits_for,
                ApprovalTaskRow.state == "running",
            ),
        )
    return query


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[ApprovalStatus]:
    rows = (await connection.execute(query)).mappings().all()
    tasks = await _tasks(connection, rows)
    return [_status(row, tasks.get((row["app"], row["instance"]), ())) for row in rows]


async def _tasks(
    connection: AsyncConnection, approvals: Sequence[RowMapping]
) -> dict[tuple[str, str], list[ApprovalTaskStatus]]:
    keys = [(row["app"], row["instance"]) for row in approvals]
    found: dict[tuple[str, str], list[ApprovalTaskStatus]] = {}
    if not keys:
        return found
    query = (
        select(ApprovalTaskRow.__table__)
        .where(tuple_(ApprovalTaskRow.app, ApprovalTaskRow.instance).in_(keys))
        .order_by(ApprovalTaskRow.since, ApprovalTaskRow.task)
    )
    for row in (await connection.execute(query)).mappings():
        found.setdefault((row["app"], row["instance"]), []).append(
            ApprovalTaskStatus(
                id=row["task"],
                user=row["user"],
                state=row["state"],
                since=row["since"],
                ended_at=row["ended_at"],
            )
        )
    return found


def _status(row: RowMapping, tasks: Sequence[ApprovalTaskStatus]) -> ApprovalStatus:
    fields = {name: row[name] for name in ApprovalStatus.__slots__ if name in row}
    return ApprovalStatus(**fields, known_since=row["known_at"], tasks=tasks)
