"""Deletes people who left long ago from the directory.

Rows that refer to them stay. They have no memberships; rows of runs about them are deleted with
them. A person who comes back later, under whatever userid, is new. A read older than their
leaving is not written any more by then: it is of a job's run, which ends within a day.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_workers.database.database import Database, chunks
from dingrelay_workers.directory.models import ChangeRow, UserRow

LOOK_EVERY = 3_600.0
"""Seconds between two searches for people due: the setting is in days."""

log = get_logger("dingrelay.directory")


class Retention:
    """Deletes people of all apps' directories once they left so long ago.

    Args:
        database: where the directories are.
        keep: for how long people who left are kept.
        now: Redis's time.
    """

    def __init__(self, database: Database, keep: timedelta, *, now: Callable[[], datetime]) -> None:
        self._database = database
        self._keep = keep
        self._now = now
        self._look_at = 0.0

    async def tick(self, on_step: Callable[[], None]) -> None:
        """Delete people who are due, in short transactions; searches once an hour at most.

        Args:
            on_step: is called after each transaction.
        """
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY
        try:
            if await self._database.has(UserRow):
                await self._delete(self._now() - self._keep, on_step)
        except SQLAlchemyError as error:  # the next look finds them, too
            log.warning("left_people_kept", reason=type(error).__name__)

    async def _delete(self, before: datetime, on_step: Callable[[], None]) -> None:
        async with self._database.read() as connection:
            query = select(UserRow.app, UserRow.userid).where(UserRow.left_at < before)
            due: dict[str, list[str]] = {}
            for app, userid in await connection.execute(query):
                due.setdefault(app, []).append(userid)
        for app, userids in due.items():
            deleted = 0
            for some in chunks(userids):
                async with self._database.write(app) as connection:
                    deleted += await _delete_some(connection, app, some, before)
                on_step()
                await self._database.let_others_write()
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
    gone = list(await connection.scalars(select(UserRow.userid).where(*due)))
    await connection.execute(
        delete(ChangeRow).where(
            ChangeRow.app == app, ChangeRow.userid.in_(gone), ChangeRow.at < before
        )
    )
    await connection.execute(delete(UserRow).where(*due))
    return len(gone)
