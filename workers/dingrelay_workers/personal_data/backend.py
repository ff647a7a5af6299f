"""Personal data as the clients of `dingrelay_producers` ask for it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.client.personal_data import Erasure
from dingrelay_producers.settings import Settings
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import migrate, unusable
from dingrelay_workers.personal_data.passes import Passes
from dingrelay_workers.personal_data.subject import Subject, new_tombstone
from dingrelay_workers.store.connections import impatient_redis


class SqlPersonalData:
    """A `dingrelay_producers.client.personal_data.PersonalDataBackend`.

    It opens its connections for each call: whoever calls has an event loop for no longer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def export(self, user: str, *, app: str | None) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        async with self._opened() as passes:
            at = await passes.now()
            return {"user": user, "app": app, "at": at, **await passes.export(Subject(user, app))}

    async def erase(self, user: str, *, app: str | None) -> Erasure:
        """The first pass of an erasure."""
        async with self._opened() as passes:
            since, tombstone = await passes.now(), new_tombstone()
            found = await passes.erase_now(user, app=app, since=since, tombstone=tombstone)
        return Erasure(
            user=user,
            app=app,
            since=since,
            tombstone=tombstone,
            erased=dict(found.changed),
            remaining=found.left,
            returns=found.returns,
        )

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Passes]:
        """The database, with its tables, and Redis.

        Raises:
            ServiceUnavailable: one of them can't be used.
        """
        await asyncio.to_thread(migrate, self._settings)
        database = Database(self._settings.database)
        try:
            async with impatient_redis(self._settings) as redis:
                yield Passes(database, redis, self._settings)
        except SQLAlchemyError as error:
            raise unusable(error) from None
        finally:
            await database.dispose()
