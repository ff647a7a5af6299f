"""Personal data as the clients of `dingrelay_producers` ask for it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from dingrelay_producers.client.personal_data import Erasure
from dingrelay_producers.settings import Settings
from dingrelay_workers.campaigns.service import opened_store
from dingrelay_workers.database.errors import refuse_missing
from dingrelay_workers.personal_data.passes import Passes
from dingrelay_workers.personal_data.subject import DataSubject
from dingrelay_workers.store.connections import impatient_redis


class PersonalDataService:
    """What is kept of people: exported and erased.

    It opens its connections for each call, since the caller's event loop lives no longer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def export(self, user: str, *, app: str | None) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        async with self._opened() as passes:
            at = await passes.now()
            return {
                "user": user,
                "app": app,
                "at": at,
                **await passes.export(DataSubject(user, app)),
            }

    async def erase(self, user: str, *, app: str | None, tombstone: str) -> Erasure:
        """The first pass of an erasure."""
        async with self._opened() as passes:
            since = await passes.now()
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
            ServiceUnavailable: one of them can't be used, or the database is not there.
        """
        refuse_missing(self._settings.database)
        async with opened_store(self._settings) as store, impatient_redis(self._settings) as redis:
            yield Passes(store.database, redis, self._settings)
