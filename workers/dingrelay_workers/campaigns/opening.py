"""Reads the files that name people of campaigns, beside what a process serves."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import opened

READERS = 2
"""Campaigns of a process whose files are read at the same time; the others wait, their uploads complete on the disk."""
_T = TypeVar("_T")


class FileReaders:
    """Does what works on files and on the database by turns.

    For many callers it does so in threads with loops of their own, a few at a time, and what has begun is finished.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
    """

    def __init__(self, settings: Settings, database: Database | None) -> None:
        self._settings = settings
        self._shared = database is not None
        self._places = asyncio.Semaphore(READERS)

    async def run(self, work: Callable[[Database], Awaitable[_T]]) -> _T:
        """Run the work, and return its result.

        Raises:
            ServiceUnavailable: the database can't be used, or there is no room for temporary files.
        """
        if not self._shared:
            return await self._open(work)
        async with self._places:
            return await asyncio.to_thread(lambda: asyncio.run(self._open(work)))

    async def _open(self, work: Callable[[Database], Awaitable[_T]]) -> _T:
        try:
            async with opened(self._settings, migrated=self._shared) as database:
                return await work(database)
        except sqlite3.Error as error:
            # The directory's own errors are SQLAlchemy's: this is the staging of recipients.
            raise ServiceUnavailable(en("temporary files ($TMPDIR): {}", error)) from None
