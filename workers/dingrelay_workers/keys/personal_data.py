"""A person as the owner of API keys, and in the answers that are repeated to requests with an ``Idempotency-Key``."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.http.idempotency import LIFE, PEOPLE
from dingrelay_workers.keys.models import ApiKeyRow
from dingrelay_workers.keys.service import WRITER
from dingrelay_workers.store.scans import ends_at, pages_of_keys
from dingrelay_workers.subjects import (
    DataSubject,
    Erasing,
    PersonalData,
    Rows,
    Stores,
    rename_in_rows,
    rows_of,
)


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every answer whose document names them."""
    return [{"answer": body} async for _, body, _ in _answers(stores.redis, subject)]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Note the answers of requests from before: they go by themselves."""
    async for name, _, until in _answers(stores.redis, erasing):
        if until is None or until - timedelta(seconds=LIFE) <= erasing.since:
            reason = en("an answer that is given again to who repeats the request")
            erasing.leave("answers", name, reason, until)


async def _answers(
    redis: Redis, subject: DataSubject
) -> AsyncIterator[tuple[str, Any, datetime | None]]:
    """Name, body and end of the answers that name the person; of any app."""
    async for page in pages_of_keys(redis, keys.idempotency("", "")[:-1]):
        pipe = redis.pipeline(transaction=False)
        for key in page:
            pipe.hmget(key, PEOPLE, "body")
        for key, (people, body) in zip(page, await pipe.execute(), strict=True):
            if people and subject.user in json.loads(people):
                yield key.rpartition(":")[2], json.loads(body), await ends_at(redis, key)


async def export_keys(stores: Stores, subject: DataSubject) -> Rows:
    """The keys that are theirs, without the digests of their secrets."""
    async with stores.database.read() as connection:
        rows = await rows_of(connection, ApiKeyRow, subject)
    names = ("id", "name", "scopes", "apps", "lanes", "sender", "created_at", "used_at")
    return [{name: row[name] for name in names} for row in rows if _covers(subject, row)]


async def erase_keys(stores: Stores, erasing: Erasing) -> None:
    """Their keys have no owner any more, and go on working; the tombstone has issued those that they issued."""
    before = ApiKeyRow.created_at <= erasing.since
    async with stores.database.write(WRITER) as connection:
        rows = await rows_of(connection, ApiKeyRow, erasing, before)
        theirs = [row for row in rows if _covers(erasing, row)]
        erasing.changed["keys"] += await rename_in_rows(connection, ApiKeyRow, theirs, erasing)
        # A tombstone is no person, in whose name a key could approve.
        owned = ApiKeyRow.owner == erasing.tombstone
        await change_rows(connection, ApiKeyRow, owned, owner="")


def _covers(subject: DataSubject, key: Mapping[str, Any]) -> bool:
    return subject.app is None or key["apps"] == [subject.app]


ANSWERS = PersonalData(
    place="answers", title=en("answers"), keys=("idempotency",), export=export, erase=erase
)
KEYS = PersonalData(
    place="keys", title=en("API keys"), tables=(ApiKeyRow,), export=export_keys, erase=erase_keys
)
