"""Roles of who had a userid that may be another person's from now on."""

from collections.abc import Collection

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import write_as
from dingrelay_workers.roles.models import RoleRow
from dingrelay_workers.roles.service import DEPARTMENT, WRITER, RoleService


async def revoke(
    connection: AsyncConnection, app: str, userids: Collection[str], *, given_away: bool
) -> None:
    """Take their roles away."""
    await write_as(connection, WRITER)
    people = [userid for userid in userids if not userid.startswith(DEPARTMENT)]
    theirs = RoleRow.directory == app, RoleRow.subject.in_(people)
    columns = RoleRow.subject, RoleRow.role, RoleRow.directory, RoleRow.apps, RoleRow.lanes
    query = select(*columns).where(*theirs).order_by(RoleRow.number)
    rows = (await connection.execute(query)).mappings().all()
    await connection.execute(delete(RoleRow).where(*theirs))
    for row in rows:
        await audit.record(
            connection,
            "revoke",
            RoleService.NOUN,
            row["subject"],
            before=dict(row),
            reason=en("the userid may be another person's from now on"),
        )
