"""Deletes people who left long ago from the directory.

Rows that refer to them stay, but for what they have by their userids (`handovers`). They have no memberships; rows of
runs about them are deleted with them. A person who comes back later, under whatever userid, is new. A read older than their
leaving is not written any more by then: it is of a job's run, which ends within a day.
"""

from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_workers.database.database import chunks
from dingrelay_workers.directory.handovers import hand_over
from dingrelay_workers.directory.models import ChangeRow, UserRow
from dingrelay_workers.maintenance.clean_up import CleanUp

log = get_logger("dingrelay.directory")


async def clean_up(work: CleanUp) -> None:
    """Delete from all directories the people who left longer ago than the settings keep them."""
    if work.settings.sync.kept_left is None:
        return
    before = work.now() - work.settings.sync.kept_left
    async with work.database.read() as connection:
        query = select(UserRow.app, UserRow.userid).where(UserRow.left_at < before)
        due: dict[str, list[str]] = {}
        for app, userid in await connection.execute(query):
            due.setdefault(app, []).append(userid)
    for app, userids in due.items():
        deleted = 0
        for batch in chunks(userids):
            async with work.database.write(app) as connection:
                deleted += await _delete_some(connection, app, batch, before)
            work.step()
            await work.database.let_others_write()
        log.info("left_people_deleted", app=app, people=deleted)


async def _delete_some(
    connection: AsyncConnection, app: str, userids: list[str], before: datetime
) -> int:
    """Delete those of the people who have not come back in between; returns their number."""
    due: tuple[ColumnElement[bool], ...] = (
        UserRow.app == app,
        UserRow.userid.in_(userids),
        UserRow.left_at < before,
    )
    due_userids = list(await connection.scalars(select(UserRow.userid).where(*due)))
    await connection.execute(
        delete(ChangeRow).where(
            ChangeRow.app == app, ChangeRow.userid.in_(due_userids), ChangeRow.at < before
        )
    )
    await hand_over(connection, app, due_userids, given_away=False)
    await connection.execute(delete(UserRow).where(*due))
    return len(due_userids)
