"""Export and erasure of personal data, in one pass over every place that holds some."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.client.personal_data import Erasure
from dingrelay_producers.settings import Settings
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import refuse_missing
from dingrelay_workers.database.schema import opened
from dingrelay_workers.personal_data import (
    approvals,
    campaigns,
    directory,
    drafts,
    history,
    records,
    webhooks,
)
from dingrelay_workers.personal_data import audit as audit_rows
from dingrelay_workers.personal_data.subject import DataSubject, Erasing
from dingrelay_workers.store.connections import impatient_redis


class Passes:
    """Everything that is kept of people.

    Args:
        database: with its tables.
        redis: with the records.
    """

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._redis = redis

    async def now(self) -> datetime:
        """Redis's time, by which jobs are accepted and end."""
        return await records.now(self._redis)

    async def note(self, action: str, person: str, app: str | None) -> None:
        """Write into the audit that this is done now."""
        async with self._database.write("audit") as connection:
            await audit.record(connection, action, "person", person, app=app or "")

    async def export(self, subject: DataSubject) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        async with self._database.read() as connection:
            with_approvals = replace(
                subject, instances=await approvals.instances_of(connection, subject)
            )
            kept = await records.export(self._redis, with_approvals)
            return {
                "directory": await directory.export(connection, subject),
                "history": await history.export(connection, subject),
                "campaigns": await campaigns.export(connection, subject),
                "drafts": await drafts.export(self._database, subject),
                "approvals": await approvals.export(connection, subject),
                "webhooks": await webhooks.export(connection, with_approvals),
                "audit": await audit_rows.export(connection, subject),
                **kept,
            }

    async def erase(
        self, user: str, *, app: str | None, since: datetime, tombstone: str
    ) -> Erasing:
        """Take a person out of whatever was kept of them at a moment, and is needed no more.

        Records come before the history, which is written from them; so what ended before the first
        is in neither after the last.
        """
        erasing = Erasing(user, app, since=since, tombstone=tombstone, now=await self.now())
        async with self._database.read() as connection:
            own = await approvals.instances_of(connection, erasing, tombstone)
        with_approvals = replace(erasing, instances=own)
        await records.erase(self._redis, with_approvals)
        await history.erase(self._database, erasing)
        await campaigns.erase(self._database, erasing)
        await drafts.erase(self._database, erasing)
        await approvals.erase(self._database, erasing)
        await webhooks.erase(self._database, with_approvals)
        await audit_rows.erase(self._database, erasing)
        # Events and approvals may still refer to people here, so it goes last.
        await directory.erase(self._database, erasing)
        return erasing


class PersonalDataService:
    """Export and erasure of personal data.

    It opens its connections for each call, since the caller's event loop lives no longer.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def export(self, user: str, *, app: str | None) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        async with self._opened() as passes:
            await passes.note("export", user, app)
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
            await passes.note("erase", tombstone, app)
            since = await passes.now()
            found = await passes.erase(user, app=app, since=since, tombstone=tombstone)
        return Erasure(
            user=user,
            app=app,
            since=since,
            tombstone=tombstone,
            erased=dict(found.changed),
            remaining=found.left,
            returns=bool(found.returned),
        )

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Passes]:
        """The database, with its tables, and Redis.

        Raises:
            ServiceUnavailable: one of them can't be used, or the database is not there.
        """
        refuse_missing(self._settings.database)
        async with opened(self._settings) as database, impatient_redis(self._settings) as redis:
            yield Passes(database, redis)
