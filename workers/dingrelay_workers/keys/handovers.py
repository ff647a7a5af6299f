"""API keys of who had a userid that may be another person's from now on."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.personal_data import new_tombstone
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import change_rows, rows_among, write_as
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.service import WRITER, KeyService
from dingrelay_workers.subjects import DataSubject, rows_of


async def disown(
    connection: AsyncConnection, app: str, userids: Collection[str], *, given_away: bool
) -> None:
    """Let a tombstone own and have issued their keys: as of those of who has left, none of them approves anything.

    A key's people may be of any directory: who has left this one may be in another.
    """
    await write_as(connection, WRITER)
    elsewhere: set[str] = set()
    if not given_away:
        present = select(UserRow.userid).where(UserRow.app != app, UserRow.left_at.is_(None))
        rows = await rows_among(connection, present, UserRow.userid, userids)
        elsewhere = {row.userid for row in rows}
    for userid in (userid for userid in userids if userid not in elsewhere):
        tombstone = new_tombstone()
        for row in await rows_of(connection, ApiKeyRow, DataSubject(userid)):
            values = ApiKeyRow.__people__.renamed(row, userid, tombstone)
            await change_rows(connection, ApiKeyRow, ApiKeyRow.id == row["id"], **values)
            owned = "owner" in values
            await audit.record(
                connection,
                "disown",
                KeyService.NOUN,
                row["id"],
                before={"owner": userid} if owned else None,
                after={"owner": tombstone} if owned else None,
                reason=en("the userid may be another person's from now on"),
            )
