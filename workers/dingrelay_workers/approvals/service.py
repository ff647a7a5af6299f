"""The stored approvals, as clients, the gateway and the command line read them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, Select, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.approvals import ApprovalStatus, ApprovalTaskStatus
from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_producers.errors import ApprovalNotFound
from dingrelay_producers.settings import Settings
from dingrelay_workers.approvals.models import ApprovalRow, ApprovalTaskRow
from dingrelay_workers.database.database import Database, latest_first, narrowed
from dingrelay_workers.database.errors import reading, refuse_missing

_SCOPE = "approvals:read"
TIMEOUT = 1.8
"""Seconds that a request waits for the database."""


class ApprovalService:
    """The stored approvals. Every method raises `ServiceUnavailable` where the database is away.

    Args:
        settings: where it is.
        database: as of `reading`.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database

    async def get(self, app: str, instance: str) -> ApprovalStatus | None:
        """An approval; None if it is not followed."""
        if "\0" in instance:
            return None  # PostgreSQL has no such text
        query = select(ApprovalRow.__table__).where(
            ApprovalRow.app == app, ApprovalRow.instance == instance
        )
        approvals = await self._read_approvals(query)
        return approvals[0] if approvals else None

    async def show(self, app: str, instance: str) -> ApprovalStatus:
        """An approval that the actor sees.

        Raises:
            ApprovalNotFound: it is not followed, or not theirs; the error does not reveal which.
        """
        approval = await self.get(app, instance)
        if approval is None or not current_reach().reaches(_SCOPE, app=app, sender=approval.sender):
            raise ApprovalNotFound(instance)
        return approval

    async def list(
        self, approval_filter: ApprovalFilter, *, limit: int, after: Sequence[Any] | None = None
    ) -> Sequence[ApprovalStatus]:
        """Approvals that the actor sees, the latest first, behind the one of this `known_since`, app and instance.

        Raises:
            NotPermitted: those of an app are asked for that is not theirs.
        """
        if approval_filter.app is not None:
            current_reach().check(_SCOPE, app=approval_filter.app)
        approval_filter = approval_filter.of_actor(_SCOPE)
        columns = ApprovalRow.known_at, ApprovalRow.app, ApprovalRow.instance
        return await self._read_approvals(
            latest_first(_query_of(approval_filter), *columns, behind=after, limit=limit)
        )

    async def _read_approvals(self, query: Select[Any]) -> Sequence[ApprovalStatus]:
        if self._database is None:
            refuse_missing(self._settings.database)
        source = reading(self._settings, ApprovalRow, self._database, within=TIMEOUT)
        async with source as connection:
            if connection is None:
                return []
            rows = (await connection.execute(query)).mappings().all()
            tasks = await _tasks(connection, rows)
            return [_status(row, tasks.get((row["app"], row["instance"]), [])) for row in rows]


def _query_of(approval_filter: ApprovalFilter) -> Select[Any]:
    query = narrowed(select(ApprovalRow.__table__), ApprovalRow, approval_filter)
    if approval_filter.waits_for is not None:
        query = query.where(
            ApprovalRow.state == "running",
            exists().where(
                ApprovalTaskRow.app == ApprovalRow.app,
                ApprovalTaskRow.instance == ApprovalRow.instance,
                ApprovalTaskRow.user == approval_filter.waits_for,
                ApprovalTaskRow.state == "running",
            ),
        )
    return query


async def _tasks(
    connection: AsyncConnection, approvals: Sequence[RowMapping]
) -> dict[tuple[str, str], list[ApprovalTaskStatus]]:
    keys = [(row["app"], row["instance"]) for row in approvals]
    tasks: dict[tuple[str, str], list[ApprovalTaskStatus]] = {}
    if not keys:
        return tasks
    query = (
        select(ApprovalTaskRow.__table__)
        .where(tuple_(ApprovalTaskRow.app, ApprovalTaskRow.instance).in_(keys))
        .order_by(ApprovalTaskRow.since, ApprovalTaskRow.task)
    )
    for row in (await connection.execute(query)).mappings():
        task = ApprovalTaskStatus.model_validate({**row, "id": row["task"]})
        tasks.setdefault((row["app"], row["instance"]), []).append(task)
    return tasks


def _status(row: RowMapping, tasks: Sequence[ApprovalTaskStatus]) -> ApprovalStatus:
    return ApprovalStatus.model_validate({**row, "known_since": row["known_at"], "tasks": tasks})
