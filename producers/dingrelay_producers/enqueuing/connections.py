"""Connections to Redis for callers that wait: after `DEADLINE` it counts as away."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from redis import asyncio as aio
from redis.exceptions import RedisError, ResponseError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, connections, keys
from dingrelay_producers.store.breaker import Breaker
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.sentence import en

SOCKET_TIMEOUT = 0.8
"""Seconds for a connection or an answer. With one repetition they stay within `DEADLINE`."""
DEADLINE = 1.8
"""Seconds after which Redis counts as away, whatever it was that took so long."""
CONNECTIONS = 64


def open_redis(settings: Settings) -> aio.Redis:
    """Redis for a gateway: bounded waits, one more try for a connection that broke unused, and none while it is away."""
    breaker = Breaker()
    return connections.open_async(
        settings.redis_address,
        breaker=breaker,
        blocking=True,
        max_connections=CONNECTIONS,
        timeout=SOCKET_TIMEOUT,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        retry=breaker.retry(1),
    )


@asynccontextmanager
async def asking() -> AsyncGenerator[None]:
    """Around whatever asks Redis.

    Raises:
        ServiceUnavailable: it can't be reached, takes nothing, or takes too long.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            yield
    except (RedisError, OSError, TimeoutError) as error:
        raise unavailable(error) from error


async def read_clock(settings: Settings) -> None:
    """Have this process know Redis' time, if it does not: for commands that write moments into the database.

    While Redis is away they write those of their own machine.
    """
    if clock.CLOCK.is_read:
        return
    redis = open_redis(settings)
    with suppress(ServiceUnavailable):
        async with asking():
            await clock.CLOCK.read(redis)
    await redis.aclose()


async def check_writes(redis: aio.Redis) -> None:
    """See that Redis is there and takes writes.

    Raises:
        ServiceUnavailable: as `asking`.
    """
    async with asking():
        await redis.set(keys.PROBE, "", px=keys.PROBE_TTL_MS)


def unavailable(error: Exception) -> ServiceUnavailable:
    """Maps an error or a time-out of Redis to `ServiceUnavailable`."""
    if isinstance(error, ResponseError):
        # The client keeps the code of a refusal that it knows as the type: "OOM" is no part of the text.
        has_code = type(error) is not ResponseError
        # Otherwise the first word is the code, and holds no part of an argument.
        word = type(error).__name__ if has_code else str(error).partition(" ")[0][:30]
        return ServiceUnavailable(en("Redis refuses: {}", word))
    return ServiceUnavailable(en("Redis cannot be reached ({})", cause(error)))
