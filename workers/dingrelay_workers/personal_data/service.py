"""Export and erasure of personal data, in one pass over every place that holds some."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.personal_data import Erasure, PersonRequest, new_tombstone
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.errors import NotPermitted
from dingrelay_producers.settings import Settings
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.errors import refuse_missing
from dingrelay_workers.database.schema import opened
from dingrelay_workers.http.accepting import Acceptor
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.store.connections import impatient_redis
from dingrelay_workers.store.scans import redis_now
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Stores, SubjectT

PERSONAL_DATA: Sequence[PersonalData] = [
    noun.load(part) for noun in NOUNS for part in noun.personal_data
]
"""Places with data of people, in the order in which a person is taken out of them."""


class Passes:
    """Everything that is kept of people.

    Args:
        database: with its tables.
        redis: with the records.
    """

    def __init__(self, database: Database, redis: Redis) -> None:
        self._stores = Stores(database, redis)

    async def now(self) -> datetime:
        """Redis's time, by which jobs are accepted and end."""
        return await redis_now(self._stores.redis)

    async def note(self, body: Callable[..., Any], person: str, app: str | None) -> None:
        """Write into the audit that this verb is carried out now."""
        async with self._stores.database.write("audit") as connection:
            await audit.record_verb(connection, body, person, app=app or "")

    async def export(self, subject: DataSubject) -> dict[str, Any]:
        """Everything that is kept of a person, by place."""
        subject = await self._with_instances(subject)
        return {part.place: await part.export(self._stores, subject) for part in PERSONAL_DATA}

    async def erase(
        self, user: str, *, app: str | None, since: datetime, tombstone: str
    ) -> Erasing:
        """Take a person out of whatever was kept of them at a moment, and is needed no more."""
        erasing = Erasing(user, app, since=since, tombstone=tombstone, now=await self.now())
        # Their approvals may have got the tombstone in an earlier pass.
        erasing = await self._with_instances(erasing, tombstone)
        for part in PERSONAL_DATA:
            await part.erase(self._stores, erasing)
        return erasing

    async def _with_instances(self, subject: SubjectT, *tombstones: str) -> SubjectT:
        """The person with the ids of their approvals."""
        instances: frozenset[str] = frozenset()
        async with self._stores.database.read() as connection:
            for part in PERSONAL_DATA:
                if part.instances is not None:
                    instances |= await part.instances(connection, subject, tombstones)
        return replace(subject, instances=instances)


class PersonalDataService:
    """Export and erasure of personal data, for the actor of the present task, who must be one that sees all.

    It opens its connections for each call, since the caller's event loop lives no longer. Each verb raises
    `NotPermitted` where the actor is another one, and `ServiceUnavailable` where Redis or the database is away, or
    not there.
    """

    NOUN = "person"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @verb(scope=ANY)
    async def export(self, request: PersonRequest) -> dict[str, Any]:
        """Hand out all that is kept of a person, by place."""
        user, app = request.user, request.app
        async with self._opened() as passes:
            await passes.note(self.export, user, app)
            at = await passes.now()
            exported = await passes.export(DataSubject(user, app))
            return {"user": user, "app": app, "at": at, **exported}

    @verb(scope=ANY)
    async def erase(self, request: PersonRequest) -> Erasure:
        """Take a person out of all that is kept: what can go now at once, the rest by a job."""
        user, app, tombstone = request.user, request.app, new_tombstone()
        async with self._opened() as passes:
            await passes.note(self.erase, tombstone, app)
            since = await passes.now()
            erasing = await passes.erase(user, app=app, since=since, tombstone=tombstone)
        erasure = Erasure(
            user=user,
            app=app,
            since=since,
            tombstone=tombstone,
            erased={part.place: erasing.changed[part.place] for part in PERSONAL_DATA},
            remaining=erasing.left,
            returns=bool(erasing.returned),
        )
        if (job := erasure.follow_up) is None:
            return erasure
        (status,) = await Acceptor(self._settings).accept([job])
        return replace(erasure, job=status.id)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Passes]:
        """The database, with its tables, and Redis, for an actor who may."""
        if not current_reach().sees_all:
            raise NotPermitted("", en("this needs the scope {}", ANY))
        refuse_missing(self._settings.database)
        async with opened(self._settings) as database, impatient_redis(self._settings) as redis:
            yield Passes(database, redis)


def for_jobs(database: Database, redis: Redis, _: Settings) -> Passes:
    """The passes of an erasure, for the jobs of a worker."""
    return Passes(database, redis)
