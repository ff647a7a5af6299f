"""The workers' connections to Redis."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis import asyncio as aio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_producers.errors import CellUnavailable, ServiceUnavailable
from dingrelay_producers.redis_address import HEALTH_CHECK, SOCKET_TIMEOUT
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.sentence import en

CONNECTIONS = 32
"""Of one process at most; a command holds one for a round trip, however many jobs run."""
RETRIES = 6
"""Tries of one command; with the backoff about 10 s, the length of a restart."""


def open_redis(settings: Settings) -> aio.Redis:
    """Redis as the workers use it: bounded waits, and patience while it restarts."""
    return open_async(
        settings.redis_address,
        blocking=True,
        max_connections=CONNECTIONS,
        timeout=SOCKET_TIMEOUT,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=SOCKET_TIMEOUT,
        health_check_interval=HEALTH_CHECK,
        retry=Retry(ExponentialBackoff(cap=3, base=0.05), RETRIES),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


@asynccontextmanager
async def impatient_redis(settings: Settings) -> AsyncGenerator[aio.Redis]:
    """Redis for a command at a terminal, while the block runs.

    Raises:
        ServiceUnavailable: it cannot be reached.
    """
    redis = open_async(
        settings.redis_address, socket_timeout=SOCKET_TIMEOUT, socket_connect_timeout=SOCKET_TIMEOUT
    )
    try:
        yield redis
    except (RedisError, OSError) as error:
        address = settings.redis_address
        where, name = address.where, cause(error, unshown=address.unshown)
        if settings.cell:
            problem = en("Redis at {} cannot be reached ({})", where, name)
            raise CellUnavailable({settings.cell: problem}) from None
        raise ServiceUnavailable(
            en("DINGRELAY_REDIS_URL: Redis at {} cannot be reached ({})", where, name)
        ) from None
    finally:
        await redis.aclose()
