"""The workers' connections to Redis, and how they outlast its absence."""

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TypeVar

from redis import asyncio as aio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.stdlib import get_logger

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.redis_address import HEALTH_CHECK, SOCKET_TIMEOUT
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.tls_trouble import cause
from dingrelay_tasks.sentence import en

CONNECTIONS = 32
"""Connections of one process at most; a command holds one for a round trip, however many jobs run."""
RETRIES = 6
"""Tries of one command; with the backoff about 10 s, the length of a restart."""
CANCEL_AGAIN = 0.1
"""Seconds after which a task that did not heed its cancellation is cancelled again."""


def open_redis(settings: Settings) -> aio.Redis:
    """Redis as the workers use it: bounded waits, and retries while it restarts."""
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


async def end_tasks(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks that use Redis until they have ended.

    Once is not always enough: before Python 3.12 `asyncio.wait_for`, in which redis-py sends,
    loses a cancellation that comes just as the sending is done.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN)


@asynccontextmanager
async def impatient_redis(
    settings: Settings, shared: aio.Redis | None = None
) -> AsyncGenerator[aio.Redis]:
    """Redis for a command at a terminal, while the block runs.

    Args:
        settings: where it is.
        shared: of a process that serves many callers, which does not wait for Redis either. Without one a connection is
            opened for the block, since the caller's event loop lives no longer.

    Raises:
        ServiceUnavailable: it cannot be reached.
    """
    redis = shared or open_async(
        settings.redis_address, socket_timeout=SOCKET_TIMEOUT, socket_connect_timeout=SOCKET_TIMEOUT
    )
    try:
        yield redis
    except (RedisError, OSError) as error:
        address = settings.redis_address
        where, name = address.where, cause(error, unshown=address.unshown)
        raise ServiceUnavailable(
            en("DINGRELAY_REDIS_URL: Redis at {} cannot be reached ({})", where, name)
        ) from None
    finally:
        if shared is None:
            await redis.aclose()


T = TypeVar("T")

PAUSE = 0.5
"""Seconds between two tries: short, so that a job is settled before its lease is found run out."""

_PASSING = (
    # Loading and a wrong password, which an operator corrects on either side, are among the first.
    RedisConnectionError,
    RedisTimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    # MASTERDOWN is one of these: a replica that lost its master.
    ClusterDownError,
    TryAgainError,
    OSError,
)
_PASSING_CODES = ("MISCONF", "BUSY", "NOREPLICAS", "OOM", "READONLY")
"""Answers that redis-py has no class for, or not where a script met them on an older server."""

log = get_logger("dingrelay.worker")


def passes(error: Exception) -> bool:
    """Whether an error of Redis passes by itself or by an operator's repair: no caller's mistake."""
    if isinstance(error, _PASSING):
        return True
    return isinstance(error, RedisError) and str(error).lstrip("-").startswith(_PASSING_CODES)


class RedisRetry:
    """Repeats what Redis failed, until it works or the worker stops."""

    def __init__(self) -> None:
        self._end = math.inf
        self._stopping = asyncio.Event()
        self._troubled = False

    def shorten(self, seconds: float) -> None:
        """The worker stops: nothing new is begun, and what is finished has so many seconds."""
        self._end = asyncio.get_running_loop().time() + seconds
        self._stopping.set()

    async def begin(self, work: Callable[[], Awaitable[T]]) -> T:
        """The work's answer, sooner or later. A worker that stops begins nothing.

        Raises:
            RedisError, OSError: it stops, or the trouble is not of the kind that passes.
        """
        return await self._repeat(work, self._stopping.is_set)

    async def finish(self, work: Callable[[], Awaitable[T]]) -> T:
        """The work's answer, sooner or later, also while the worker stops.

        Raises:
            RedisError, OSError: its time is over, or the trouble is not of the kind that passes.
        """
        now = asyncio.get_running_loop().time
        return await self._repeat(work, lambda: now() >= self._end)

    async def _repeat(self, work: Callable[[], Awaitable[T]], over: Callable[[], bool]) -> T:
        while True:
            try:
                answer = await work()
            except (RedisError, OSError) as error:
                if not passes(error) or over():
                    raise
                self._log(error)
                await asyncio.sleep(PAUSE)
            else:
                if self._troubled:
                    self._troubled = False
                    log.info("redis_usable")
                return answer

    def _log(self, error: Exception) -> None:
        """One line for a trouble, however many jobs meet it."""
        if not self._troubled:
            self._troubled = True
            log.warning("redis_unusable", reason=type(error).__name__, message=str(error)[:200])
