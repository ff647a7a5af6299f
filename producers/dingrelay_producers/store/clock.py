"""Redis' clock: the one by which moments are taken that another process compares.

Machines' clocks differ, and a key that has expired for one gateway, a lock that has ended for one worker or a signature
that is too old for a receiver would then depend on which process was asked. So each process reads Redis' time now and then,
and carries it on by its monotonic clock. Durations come from the monotonic clock itself, and moments
that DingTalk compares from its `Date` header.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:  # a command that asks no Redis need not import it
    from redis import asyncio as aio

READ_EVERY = 10.0
"""Seconds between two readings: a machine that was suspended, or a failover to another clock, is noticed then."""
AGAIN_AFTER = 1.0
"""Seconds until the next one while Redis is away."""
DRIFT = 1e-4
"""Seconds by which a monotonic clock may be off after each second: oscillators keep a tenth of that."""


class RedisClock:
    """Redis' time, as far as this process knows it.

    Until Redis has answered once it is the machine's own.
    """

    def __init__(self) -> None:
        self._offset: float | None = None
        self._error = self._read_at = 0.0

    @property
    def is_read(self) -> bool:
        """Whether Redis has answered."""
        return self._offset is not None

    def now(self) -> datetime:
        """The present moment."""
        if self._offset is None:
            return datetime.now(UTC)
        return datetime.fromtimestamp(self._offset + monotonic(), UTC)

    def shared_now(self) -> datetime:
        """The present moment, for an answer that all processes must give alike.

        Raises:
            ServiceUnavailable: Redis has not answered yet.
        """
        if not self.is_read:
            raise ServiceUnavailable(en("the time of Redis has not been read yet"))
        return self.now()

    def note(self, seconds: float, began: float, ended: float) -> None:
        """Take a reading, unless the one before is more precise and agrees with it.

        Args:
            seconds: Redis' time, in seconds since the epoch.
            began: the monotonic time when it was asked for.
            ended: the monotonic time of its answer.
        """
        offset, error = seconds - (began + ended) / 2, (ended - began) / 2
        grown = self._error + (ended - self._read_at) * DRIFT
        if self._offset is None or error <= grown or abs(offset - self._offset) > error + grown:
            self._offset, self._error, self._read_at = offset, error, ended

    async def read(self, redis: "aio.Redis") -> None:
        """Ask Redis.

        Raises:
            RedisError, OSError: it is away.
        """
        began = monotonic()
        seconds, micros = await redis.time()
        self.note(seconds + micros / 1e6, began, monotonic())

    async def follow(self, redis: "aio.Redis") -> None:
        """Ask again and again, for ever."""
        from redis.exceptions import RedisError  # noqa: PLC0415 - as above

        while True:
            pause = AGAIN_AFTER
            with suppress(RedisError, OSError):
                await self.read(redis)
                pause = READ_EVERY
            await asyncio.sleep(pause)


CLOCK = RedisClock()
"""The clock of this process."""


def now() -> datetime:
    """The present moment, by Redis' clock."""
    return CLOCK.now()
