"""Daily limits in Redis, for tests that read them."""

from collections.abc import Iterable
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_workers.limiter.daily_limits import place

PEOPLE = [f"u{number}" for number in range(1, 10)]


def of_user(app: str, day: str, user: str) -> tuple[str, str]:
    """The key and the field of a user's messages."""
    shard, digest = place(user)
    return f"{keys.received(app, day)}:{shard}", str(digest)


async def received(
    redis: Redis, app: str, day: str, users: Iterable[str] = PEOPLE
) -> dict[str, int]:
    """Messages of the day, of those of the users who have had any."""
    found = {user: await redis.hget(*of_user(app, day, user)) for user in users}
    return {user: int(count) for user, count in found.items() if count is not None}


async def put_received(redis: Redis, app: str, day: str, counts: dict[str, Any]) -> None:
    """Have the users had so many messages."""
    for user, count in counts.items():
        key, field = of_user(app, day, user)
        await redis.hset(key, field, count)
        await redis.pexpire(key, keys.DAY_TTL_MS)
