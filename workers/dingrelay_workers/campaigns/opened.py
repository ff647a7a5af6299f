"""Campaigns as commands and the Python client open them: for one call, with their tables."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import BUSY_TIMEOUT_MS, Database
from dingrelay_workers.database.errors import unusable
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.store.connections import impatient_redis


@asynccontextmanager
async def opened_store(
    settings: Settings, *, migrated: bool = False
) -> AsyncGenerator[CampaignStore]:
    """What campaigns are and have done, while the block runs.

    Args:
        settings: of this process.
        migrated: whether the tables are already up to date; bringing them so takes some 50 ms.

    Raises:
        ServiceUnavailable: the database can't be used, or there is no room for temporary files.
    """
    if not migrated:
        await asyncio.to_thread(migrate, settings)
    store = CampaignStore(settings.database)
    try:
        yield store
    except SQLAlchemyError as error:
        raise unusable(error) from None
    except sqlite3.Error as error:
        # The directory's own errors are SQLAlchemy's: this is the staging of recipients.
        raise ServiceUnavailable(f"temporary files ($TMPDIR): {error}") from None
    finally:
        await store.close()


@asynccontextmanager
async def opened_services(
    settings: Settings, *, migrated: bool = False, busy_timeout_ms: int = BUSY_TIMEOUT_MS
) -> AsyncGenerator[tuple[Database, Redis]]:
    """The database of campaigns and the fleet's Redis, while the block runs.

    `migrated` is that of `opened_store`, `busy_timeout_ms` that of `Database`.

    Raises:
        ServiceUnavailable: one of them can't be used.
    """
    if not migrated:
        await asyncio.to_thread(migrate, settings)
    database = Database(settings.database, busy_timeout_ms=busy_timeout_ms)
    try:
        async with impatient_redis(settings) as redis:
            yield database, redis
    except SQLAlchemyError as error:
        raise unusable(error) from None
    finally:
        await database.dispose()
