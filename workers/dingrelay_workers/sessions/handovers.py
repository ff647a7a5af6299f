"""Sessions and links of who had a userid that may be another person's from now on."""

from collections.abc import Collection

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.database import write_as
from dingrelay_workers.sessions.models import ConsoleLinkRow, ConsoleSessionRow
from dingrelay_workers.sessions.sessions import WRITER
from dingrelay_workers.subjects import DataSubject, rows_of


async def end(
    connection: AsyncConnection, app: str, userids: Collection[str], *, given_away: bool
) -> None:
    """End those that are theirs, and those that they issued, in whatever directory their people are."""
    await write_as(connection, WRITER)
    for userid in userids:
        for table in (ConsoleSessionRow, ConsoleLinkRow):
            digests = [
                row["digest"]
                for row in await rows_of(connection, table, DataSubject(userid))
                if row["directory"] == app or userid in row["issuers"]
            ]
            await connection.execute(delete(table).where(table.digest.in_(digests)))
