"""Places where something of people is kept, for tests of exports and erasures."""

import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select

from dingrelay_producers import State
from dingrelay_producers.client.personal_data import new_tombstone
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database
from dingrelay_workers.personal_data.service import Passes
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.subjects import NEEDED, Erasing
from support.jobs import claimed, queued
from support.rows import LONG_AGO, all_of, change, put

SUBJECT = "zhang-san"
"""The person whose data is exported and erased. `OTHER` must keep theirs, although it looks alike."""
OTHER = "zhang-san2"
MOBILE = "13800000000"
TEXT = {"msgtype": "text", "text": {"content": "hi"}}


class Office:
    """Places where something of people is kept, and passes over them."""

    def __init__(self, redis: Redis, database: Database, settings: Settings) -> None:
        self.redis = redis
        self.database = database
        self.settings = settings
        self.passes = Passes(database, redis)
        self.records = Records(redis, settings)
        self.tombstone = new_tombstone()

    async def put(self, table: type[Base], *rows: dict[str, Any]) -> None:
        for row in rows:
            await put(self.database, table, row)

    async def update(self, table: type[Base], **values: Any) -> None:
        await change(self.database, table, **values)

    async def rows(self, table: type[Base]) -> list[dict[str, Any]]:
        return await all_of(self.database, table)

    async def payload(self, job: str) -> Any:
        return json.loads(await self.redis.hget(keys.job(job), "payload") or b"")

    async def age(self, job: str, ago: timedelta = NEEDED) -> None:
        """Backdate the job's end."""
        settled = int((datetime.now(UTC) - ago).timestamp() * 1000)
        await self.redis.hset(keys.job(job), "settled", str(settled))

    async def ended(
        self, state: State = State.DONE, *, ago: timedelta = NEEDED, **fields: Any
    ) -> str:
        """A job that ended some time ago, with what it remembers."""
        steps, result = fields.pop("steps", {}), fields.pop("result", None)
        draft = await queued(self.redis, **fields)
        claim = await claimed(self.records, draft)
        usage = Usage(attempts=1, steps=steps)
        assert await self.records.settle(claim, state, usage=usage, result=result)
        await self.age(draft.id, ago)
        return draft.id

    async def erase(self, *, app: str | None = None, since: datetime | None = None) -> Erasing:
        since = since or await self.passes.now()
        return await self.passes.erase(SUBJECT, app=app, since=since, tombstone=self.tombstone)

    async def places(self, text: str = SUBJECT) -> set[str]:
        """Tables and keys in which the person, or another text, is named, wherever and however."""
        found: set[str] = set()
        for table in Base.metadata.tables.values():
            async with self.database.read() as connection:
                for row in await connection.execute(select(table)):
                    if text in repr(tuple(row)).replace(OTHER, ""):
                        found.add(table.name)
        async for key in self.redis.scan_iter("*"):
            if text in repr(await self._value(key)).replace(OTHER, ""):
                found.add(key.decode().split(":")[1])
        return found

    async def _value(self, key: bytes) -> Any:
        match (await self.redis.type(key)).decode():
            case "hash":
                return await self.redis.hgetall(key)
            case "string":
                return await self.redis.get(key)
            case "zset":
                return await self.redis.zrange(key, 0, -1)
            case "stream":
                return await self.redis.xrange(key)
            case _:
                return await self.redis.smembers(key)


def a_person(userid: str = SUBJECT, **fields: Any) -> dict[str, Any]:
    row = {"userid": userid, "name": userid.upper(), "read_at": 1}
    return {**row, "fields": {"userid": userid, "mobile": "138"}, **fields}


def an_approval(instance: str, state: str = "approved", **fields: Any) -> dict[str, Any]:
    row = {"instance": instance, "state": state, "originator": SUBJECT}
    due = LONG_AGO if state == "running" else None
    return {**row, "title": f"{SUBJECT}提交的请假", "look_at": due, **fields}


def a_notice(data: dict[str, Any], **fields: Any) -> dict[str, Any]:
    id_ = f"msg_{zlib.crc32(repr((data, fields)).encode())}"
    return {"id": id_, "type": "job.done", "data": data, **fields}
