"""Errors for a database that is away, refuses us or is silent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database, async_url

CHECK_SECONDS = 1.5
"""A database that takes longer to answer a probe is silent; within `readiness.CHECK_SECONDS`."""


def refuse_missing(url: str) -> None:
    """Stop a reader whose SQLite file is not there: what a new, empty one says of people is wrong.

    Raises:
        ServiceUnavailable: there is no such file.
    """
    parsed = async_url(url)
    path = Path(parsed.database or "").absolute()
    if parsed.get_backend_name() == "sqlite" and not path.exists():
        raise ServiceUnavailable(
            en("DINGRELAY_DATABASE_URL: there is no database at {}; the workers create it", path)
        )


def unusable(error: SQLAlchemyError) -> ServiceUnavailable:
    """The text for the database's error, without its own, which may hold URL and password."""
    return ServiceUnavailable(
        en("DINGRELAY_DATABASE_URL: the database can't be used ({})", type(error).__name__)
    )


@asynccontextmanager
async def answering(within: float | None) -> AsyncGenerator[None]:
    """Around use of the database: its errors and its silence become ours.

    Args:
        within: seconds after which it is silent; None: it has any time.

    Raises:
        ServiceUnavailable: it is away, refuses us or does not answer.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except SQLAlchemyError as error:
        raise unusable(error) from None
    except TimeoutError:
        raise ServiceUnavailable("DINGRELAY_DATABASE_URL: the database does not answer") from None


async def check_answers(database: Database) -> None:
    """Ask the database for nothing.

    Raises:
        ServiceUnavailable: as `answering`.
    """
    async with answering(CHECK_SECONDS), database.read() as connection:
        await connection.execute(text("select 1"))


@asynccontextmanager
async def reading(
    settings: Settings,
    table: type[Base],
    database: Database | None = None,
    *,
    within: float | None = None,
) -> AsyncGenerator[AsyncConnection | None]:
    """A connection to read a table; None where nothing was ever written, and nothing is created.

    Args:
        settings: where the database is.
        table: that is read.
        database: the gateway's, which is open and has its tables. Without one connections are opened for the
            block, since the caller's event loop lives no longer.
        within: seconds that the gateway's may take.

    Raises:
        ServiceUnavailable: the database is away.
    """
    if database is not None:
        async with answering(within), database.read() as connection:
            yield connection
        return
    opened = Database(settings.database)
    try:
        async with answering(None):
            if not await opened.has(table):
                yield None
                return
            async with opened.read() as connection:
                yield connection
    finally:
        await opened.dispose()
