"""Opens the campaigns in their database, for a call or for as long as a process serves others."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import unusable
from dingrelay_workers.database.schema import migrate

READERS = 2
"""Campaigns of a process whose files are read at the same time; the others wait, their uploads complete on the disk."""
_T = TypeVar("_T")


@asynccontextmanager
async def opened_store(
    settings: Settings, database: Database | None = None, *, migrated: bool = False
) -> AsyncGenerator[CampaignStore]:
    """The campaigns in their database, while the block runs.

    Args:
        settings: of this process.
        database: of a process that serves many callers, whose tables are up to date; for its event loop only.
        migrated: whether the tables are up to date without one.

    Raises:
        ServiceUnavailable: the database can't be used, or there is no room for temporary files.
    """
    if database is None:
        await read_clock(settings)
        if not migrated:
            await asyncio.to_thread(migrate, settings)
    opened = database or Database(settings.database)
    try:
        yield CampaignStore(opened)
    except SQLAlchemyError as error:
        raise unusable(error) from None
    except sqlite3.Error as error:
        # The directory's own errors are SQLAlchemy's: this is the staging of recipients.
        raise ServiceUnavailable(en("temporary files ($TMPDIR): {}", error)) from None
    finally:
        if database is None:
            await opened.dispose()


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

    async def run(self, work: Callable[[CampaignStore], Awaitable[_T]]) -> _T:
        """Run the work, and return its result."""
        if not self._shared:
            return await self._open(work)
        async with self._places:
            return await asyncio.to_thread(lambda: asyncio.run(self._open(work)))

    async def _open(self, work: Callable[[CampaignStore], Awaitable[_T]]) -> _T:
        async with opened_store(self._settings, migrated=self._shared) as store:
            return await work(store)
