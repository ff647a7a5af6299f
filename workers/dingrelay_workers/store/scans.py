"""Scans of Redis's keys, for what no index leads to. Each step takes some microseconds; Redis serves others in between."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from redis.asyncio import Redis

SCANNED = 1_000
"""Keys that one step of a scan looks at."""


async def pages_of_keys(redis: Redis, prefix: str, end: str = "") -> AsyncIterator[Sequence[str]]:
    """The keys with this prefix and end, in pages; keys added during the scan may be missing."""
    cursor = 0
    while True:
        cursor, page = await redis.scan(cursor, match=f"{prefix}*{end}", count=SCANNED)
        if page:
            yield [cast("bytes", key).decode() for key in page]
        if cursor == 0:
            return


async def ends_at(redis: Redis, key: str) -> datetime | None:
    """When a key goes by itself."""
    ttl_ms = await redis.pttl(key)
    return await redis_now(redis) + timedelta(milliseconds=ttl_ms) if ttl_ms > 0 else None


async def redis_now(redis: Redis) -> datetime:
    """Redis's time, by which jobs are accepted and end."""
    seconds, micros = await redis.time()
    return datetime.fromtimestamp(seconds + micros / 1e6, UTC)
