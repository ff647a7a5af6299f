"""Digests in Redis: the messages that wait for one, and what became of it (`dingrelay_tasks.context.Digests`)."""

import json
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import canonical_json
from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_tasks.contract import Json

_PACKAGE = "dingrelay_workers.jobs"
_JOIN = Script.load(_PACKAGE, "join_digest")
_CLOSE = Script.load(_PACKAGE, "close_digest")

MOST_MESSAGES = 2_000
"""Messages of one digest; more begin another one."""
GIVEN_UP_MS = 3_600_000
"""After which a digest that is being posted holds up those behind it no more. A robot is blocked for ten minutes."""


class JobDigests:
    """The digests of robots and groups, for one job."""

    def __init__(self, redis: Redis, job_id: str) -> None:
        self._redis = redis
        self._job_id = job_id

    async def join(self, target: str, message: Json) -> tuple[str, Json | None]:
        """The digest that carries this job's message, and its result once it is over."""
        call = _JOIN.call(
            [keys.digest_of(self._job_id), keys.digests(target)],
            [
                self._job_id,
                canonical_json({**message, "job": self._job_id}),
                keys.digest(""),
                keys.digest_result(""),
                MOST_MESSAGES,
                keys.DIGEST_TTL_MS,
            ],
        )
        digest, result = await run_async(self._redis, call)
        found = json.loads(result) if result else None
        if found and "failed" in found:
            # A requeue joins another one.
            await self._redis.delete(keys.digest_of(self._job_id))
        return digest.decode(), found

    async def result(self, digest: str) -> Json | None:
        """What became of a digest; None if it is not over."""
        result = await self._redis.get(keys.digest_result(digest))
        return json.loads(result) if result else None

    async def close(self, target: str, digest: str, every: float) -> float:
        """Close a digest; seconds to wait where its time has not come."""
        call = _CLOSE.call([keys.digests(target)], [digest, int(every * 1000), GIVEN_UP_MS])
        return float(await run_async(self._redis, call)) / 1000

    async def messages(self, digest: str) -> list[Json]:
        """The messages of a digest that is closed, as they came."""
        found: list[Any] = await self._redis.lrange(keys.digest(digest), 0, -1)
        return [json.loads(each) for each in found]

    async def finish(self, target: str, digest: str, result: Json) -> None:
        """Store what became of a digest; the next one may follow."""
        kept, where = keys.DIGEST_TTL_MS, keys.digests(target)
        await self._redis.set(keys.digest_result(digest), canonical_json(result), px=kept)
        open_, busy, since = await self._redis.hmget(where, "open", "busy", "since")
        if open_ == digest.encode():
            await self._redis.hdel(where, "open")
        # One that was given up is not the target's any more.
        if busy == digest.encode():
            await self._redis.hset(where, "last", since or 0)
            await self._redis.hdel(where, "busy")

    async def forget(self, digest: str) -> None:
        """Delete the messages: they are kept as long as their jobs are under way, which an erasure waits for."""
        await self._redis.delete(keys.digest(digest))
