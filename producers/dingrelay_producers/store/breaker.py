"""Fails calls to a Redis that is away at once, so that only a few wait for a time-out."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Self

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_tasks.sentence import en

PAUSE = 1.0
"""Seconds without a try after a connection failed; one caller then finds out for all. They double with each
failure, since that caller may wait for a time-out."""
LONGEST_PAUSE = 4.0
NEEDED = 2
"""Failures without an answer between them: one alone may be a connection's own."""
APART = 0.5
"""Seconds between two failures that count: what fails at the same moment is one."""
TOGETHER = 5.0
"""Seconds after which a failure is forgotten: not every answer is reported."""
TRIAL = 10.0
"""Seconds after which a probe without a verdict counts as given up."""


class Breaker:
    """Fails at once what would fail after its time-out. Safe to share between threads.

    A server that refuses a command is there.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._try_at: float | None = None
        self._pause = PAUSE
        self._trying = False
        self._failures = 0
        self._failed_at = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether the server counts as away."""
        return self._try_at is not None

    def check(self) -> None:
        """Let a caller through.

        Raises:
            redis.ConnectionError: the server was away a moment ago, and another caller tries it.
        """
        if self._try_at is None:
            return
        now = self._clock()
        if now < self._try_at:
            raise RedisConnectionError(en("it was away a moment ago"))
        self._try_at, self._trying = now + TRIAL, True

    def failed(self) -> None:
        """It could not be reached, or said nothing for a moment."""
        now = self._clock()
        since = now - self._failed_at
        if since < APART and not self._trying:
            return
        if since > TOGETHER and not self.is_open:
            self._failures = 0
        self._failed_at = now
        self._failures += 1
        if self._failures >= NEEDED:
            self._open()

    def _open(self) -> None:
        if self._trying:
            # Among concurrent failures only the probe's doubles the pause.
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._trying = False
        self._try_at = self._clock() + self._pause

    def answered(self) -> None:
        """It is there."""
        self._try_at, self._pause, self._trying, self._failures = None, PAUSE, False, 0

    def left(self) -> None:
        """The probe was cancelled; after a pause another caller may probe."""
        if self._try_at is not None:
            self._try_at = self._clock() + PAUSE

    def retry(self, retries: int) -> "Retry":
        """How often asyncio's connections of redis-py try again, at once; silence is reported."""
        return _ReportingRetry(self, retries)

    def __deepcopy__(self, memo: object) -> Self:
        """The same: redis-py makes a copy of what each connection has."""
        return self

    def guard(self, pool: Any) -> None:
        """Have a pool of redis-py, for asyncio, check the breaker before it connects, and report the outcome.

        Pool exhaustion is not a server failure.
        """
        get, ensure = pool.get_connection, pool.ensure_connection

        async def get_connection(*args: Any, **options: Any) -> Any:
            self.check()
            return await get(*args, **options)

        async def ensure_connection(connection: Any) -> None:
            if self.is_open:
                # An open connection may be silent, and would give no verdict.
                await connection.disconnect()
            fresh = not connection.is_connected
            try:
                await ensure(connection)
            except (RedisError, OSError):
                self.failed()
                raise
            except asyncio.CancelledError:
                self.left()
                raise
            if fresh:
                self.answered()

        pool.get_connection, pool.ensure_connection = get_connection, ensure_connection


class _ReportingRetry(Retry):
    """Tries again, and reports to a breaker what was not answered in time."""

    def __init__(self, breaker: Breaker, retries: int) -> None:
        super().__init__(NoBackoff(), retries)
        self._breaker = breaker

    async def call_with_retry(self, do: Any, fail: Any, *args: Any, **options: Any) -> Any:
        async def failed(error: Exception, *count: int) -> Any:
            # A broken connection is no failure of the server, which may have closed it long ago.
            if isinstance(error, RedisTimeoutError):
                self._breaker.failed()
            return await fail(error, *count)

        return await super().call_with_retry(do, failed, *args, **options)
