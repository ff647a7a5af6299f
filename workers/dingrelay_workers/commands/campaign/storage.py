"""The database of campaigns, as commands open it."""

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.store import CampaignStore


@asynccontextmanager
async def opened(settings: "Settings") -> AsyncGenerator["CampaignStore", None]:
    """The store, with its tables, while the block runs.

    Raises:
        ServiceUnavailable: the database can't be used, or there is no room for temporary files.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from dingrelay_producers.errors import ServiceUnavailable
    from dingrelay_workers.campaigns.store import CampaignStore
    from dingrelay_workers.commands.schema import migrate, unusable

    migrate(settings)
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
