"""Errors for a database that is away, refuses us or is silent."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_workers.database.database import async_url


def refuse_missing(url: str) -> None:
    """Stop a reader whose SQLite file is not there: what a new, empty one says of people is wrong.

    Raises:
        ServiceUnavailable: there is no such file.
    """
    parsed = async_url(url)
    path = Path(parsed.database or "").absolute()
    if parsed.get_backend_name() == "sqlite" and not path.exists():
        raise ServiceUnavailable(
            f"DINGRELAY_DATABASE_URL: there is no database at {path}; the workers create it"
        )


def unusable(error: SQLAlchemyError) -> ServiceUnavailable:
    """The text for the database's error, without its own, which may hold URL and password."""
    return ServiceUnavailable(
        f"DINGRELAY_DATABASE_URL: the database can't be used ({type(error).__name__})"
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
