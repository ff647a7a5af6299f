"""The people who see an app: read daily for the fleet, and again before recipients are left out."""

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass

from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store import keys
from dingrelay_producers.store.states import OwnershipLost
from dingrelay_workers.calls.errors import Cancelled
from dingrelay_workers.dingtalk.contacts import VisibleRange, visible_range
from dingrelay_workers.dingtalk.errors import DingTalkError, Final, Throttled
from dingrelay_workers.dingtalk.lenient import MALFORMED
from dingrelay_workers.dingtalk.request import Calls
from dingrelay_workers.limiter.slot import Draining, Parked
from dingrelay_workers.store.records import RedisTime

FRESH_MS = 60_000
"""A range by which recipients are left out is no older than this: each reading is a call of the
month, as the message that is saved by it would have been."""
KEPT = 60.0
"""Seconds for which a process does not ask Redis again."""
FAILED_FOR_MS = 60_000
"""Pause after a reading of a range failed for a passing reason."""
REFUSED_FOR_MS = 3_600_000
"""The same where DingTalk refuses it, or answers otherwise than documented."""
MOST_READINGS = 24
"""Readings of an app's range a day: of a month of 5,000 calls no more than a seventh goes there, whatever
the range or its answers are. After that people are sent to, unless that saves a call."""
LARGEST = 512 * 1024
"""Bytes of a range that is cached; a larger one leaves no recipient out."""

MINE = (Cancelled, Draining, OwnershipLost, Parked, RedisError, Throttled)
"""Errors that end the run of the asking job, as does the wait for a limit. The job survives other errors."""

log = get_logger("dingrelay.recipients")


@dataclass(frozen=True, slots=True)
class RangeReading:
    """A range as it was read.

    Attributes:
        range: None if it could not be read.
        read: when it was, in ms of Redis's clock.
    """

    range: VisibleRange | None
    read: int


_READING = TypeAdapter(RangeReading)
"""The JSON that Redis keeps."""


async def last_reading(redis: Redis, app: str) -> RangeReading | None:
    """The range of an app as some worker has read it in the last day; None if none has."""
    text = await redis.get(keys.visible_range(app))
    try:
        return None if text is None else _READING.validate_json(text)
    except ValueError:
        return None  # as another version wrote it


class VisibleRanges:
    """The ranges of one process's apps."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._kept: dict[str, tuple[RangeReading, float]] = {}
        self._reading: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def of(self, calls: Calls, now: RedisTime) -> VisibleRange | None:
        """The people who see the app that calls; None if unknown.

        Args:
            calls: reads it, where it is not cached.
            now: Redis's clock.

        Raises:
            Exception: one of `MINE`.
        """
        return (await self._reading_of(calls, now, oldest=0, saves=False)).range

    async def fresh(
        self, calls: Calls, now: RedisTime, *, saves: bool
    ) -> tuple[VisibleRange | None, float]:
        """The same as it was read within the last minute, and for how many seconds it is that still.

        Args:
            calls: reads it, where it is not cached.
            now: Redis's clock.
            saves: the answer may save a call, and so is worth one.

        Raises:
            Exception: one of `MINE`.
        """
        reading = await self._reading_of(calls, now, oldest=now.now() - FRESH_MS, saves=saves)
        return reading.range, max(0, reading.read + FRESH_MS - now.now()) / 1000

    async def _reading_of(
        self, calls: Calls, now: RedisTime, *, oldest: int, saves: bool
    ) -> RangeReading:
        async with self._reading[calls.app]:
            reading = self._at_hand(calls.app)
            if reading is None or reading.read < oldest:
                reading = await self._in_redis(calls.app)
            if reading is not None and reading.read >= oldest:
                return reading
            if await self._count_reading(calls.app) <= MOST_READINGS or (
                saves and reading is not None and reading.range
            ):
                return await self._read_range(calls, now)
            # The cached range stays: it still shows who need not be doubted.
            nothing = RangeReading(None, now.now())
            return nothing if reading is not None else self._keep(calls.app, nothing)

    def forget(self) -> None:
        """Drop the cache: read from Redis again."""
        self._kept.clear()

    def _at_hand(self, app: str) -> RangeReading | None:
        reading, until = self._kept.get(app, (None, 0.0))
        return reading if time.monotonic() < until else None

    async def _in_redis(self, app: str) -> RangeReading | None:
        reading = await last_reading(self._redis, app)
        return None if reading is None else self._keep(app, reading)

    async def _count_reading(self, app: str, by: int = 1) -> int:
        """How often the app's range was read today, with one reading more, or one that was not made less."""
        key = keys.visible_range_readings(app)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, px=keys.VISIBLE_RANGE_TTL_MS, nx=True)
            pipe.incrby(key, by)
            _, readings = await pipe.execute()
        return int(readings)

    async def _read_range(self, calls: Calls, now: RedisTime) -> RangeReading:
        range_, ttl_ms = None, keys.VISIBLE_RANGE_TTL_MS
        try:
            range_ = await visible_range(calls)
        except MINE:
            await self._count_reading(calls.app, -1)
            raise
        except Exception as error:  # noqa: BLE001 - an outage, say: the message goes on
            log.info("visible_range_unreadable", app=calls.app, reason=str(error))
            refused = isinstance(error, Final) or (
                isinstance(error, DingTalkError) and error.code == MALFORMED
            )
            ttl_ms = REFUSED_FOR_MS if refused else FAILED_FOR_MS
        reading = RangeReading(range_, now.now())
        text = _READING.dump_json(reading)
        if len(text) > LARGEST:
            reading = RangeReading(None, reading.read)
            text = _READING.dump_json(reading)
        await self._redis.set(keys.visible_range(calls.app), text, px=ttl_ms)
        return self._keep(calls.app, reading)

    def _keep(self, app: str, reading: RangeReading) -> RangeReading:
        self._kept[app] = reading, time.monotonic() + KEPT
        return reading
