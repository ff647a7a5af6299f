"""DingTalk's clock: what the ``Date`` of its answers shows of it, shared by the fleet through Redis.

DingTalk counts messages by its own days, so nothing that depends on them is decided by another clock.
Each process reads the time off DingTalk's answers. How far that is from Redis's clock is one value of
the fleet: a worker that has no answer yet uses what others have measured.
"""

import time
from asyncio import Lock
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import moment_of
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import PLACES
from dingrelay_tasks.contract import within_reach

EVERY = 5.0
"""Seconds between two readings of a host, and for which a process uses what it has read of the fleet's
offset: clocks hardly move apart in that time."""
RESOLUTION = 1.0
"""Seconds of ``Date``: the answer was made within this time after it."""
DRIFT = 1e-3
"""Seconds a second by which two clocks may move apart; a poor quartz has a tenth of it."""


class Offset(NamedTuple):
    """How far DingTalk's clock is ahead of Redis's: at least and at most, in ms."""

    least: int
    most: int


@script("dingrelay_workers.dingtalk", PLACES)
def _share_clock(
    *,
    reading: Key,
    ttl: int,
    drift: float,
    own_low: float | None,
    own_high: float | None,
    own_age: float | None,
) -> None:
    """A reading is used for `ttl` (ms); clocks move apart by `drift` in a ms at most.

    That of this process, if it has one, is between two bounds (ms), and so many ms old.
    """


@lru_cache(maxsize=4)  # answers of one second tell one moment
def moment(date: str) -> datetime | None:
    """Parse a ``Date``; None if it is invalid."""
    try:
        read = parsedate_to_datetime(date)
        return within_reach(read if read.tzinfo else read.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class _Reading:
    """DingTalk's time less the monotonic clock, in seconds, between two bounds.

    Attributes:
        at: when the latest answer came that it follows from, by the monotonic clock.
    """

    low: float
    high: float
    at: float

    def narrowed(self, earlier: "_Reading | None") -> "_Reading":
        """This reading within an earlier one; itself where they contradict, since a clock was set."""
        if earlier is None:
            return self
        drift = (self.at - earlier.at) * DRIFT
        low, high = max(self.low, earlier.low - drift), min(self.high, earlier.high + drift)
        return _Reading(low, high, self.at) if low <= high else self


@dataclass(frozen=True, slots=True)
class _Shared:
    """The fleet's reading as Redis returned it.

    Attributes:
        now: its time, in ms since the epoch.
        sent: when it was asked, by the monotonic clock.
        came: when the answer came.
        offset: of DingTalk's clock; None: no worker has a reading.
    """

    now: int
    sent: float
    came: float
    offset: Offset | None


class DingTalkClock:
    """The one way to DingTalk's time, seen from one process.

    An answer was made between the moments at which its request left and it came, and within a
    second after its ``Date``. What one answer leaves open, the next ones narrow down, whichever process got
    them; where two contradict, the newer one counts. A reading is used for ten minutes. The fleet's is of
    one Redis: after a failover another clock shows the time, and each process shares what it has again.

    Attributes:
        measuring: held by who takes a reading where there is none.
        undated: the latest answer of DingTalk's that was looked at showed no time.
    """

    def __init__(self, redis: Redis) -> None:
        """Sends nothing yet."""
        self._redis = redis
        self._readings: dict[str, _Reading] = {}
        self._shared: _Shared | None = None
        self._shared_reading = 0.0
        self.measuring = Lock()
        self.undated = False

    def observe(self, host: str, date: str | None, *, sent: float, came: float) -> None:
        """Take note of an answer's ``Date``; `sent` and `came` are of the monotonic clock."""
        earlier = self._readings.get(host)
        if earlier and came - earlier.at < EVERY:
            return
        read = moment(date) if date else None
        self.undated = read is None
        if read is None:
            return
        shown = read.timestamp()
        reading = _Reading(shown - came, shown + RESOLUTION - sent, came)
        self._readings[host] = reading.narrowed(earlier)

    async def ahead(self) -> int | None:
        """DingTalk's clock less Redis's in ms, at least, by the fleet's readings of the last ten minutes.

        Returns:
            None where there is none (`JobCalls.clock_offset` takes one).

        Raises:
            RedisError: Redis cannot be reached.
        """
        offset = await self.offset()
        return offset.least if offset else None

    async def offset(self) -> Offset | None:
        """The same with what the readings leave open.

        Raises:
            RedisError: Redis cannot be reached.
        """
        return (await self._current()).offset

    async def now(self) -> datetime:
        """DingTalk's time; that of Redis where there is no reading.

        Raises:
            RedisError: Redis cannot be reached.
        """
        shared = await self._current()
        elapsed_ms = int((time.monotonic() - shared.came) * 1000)
        least = shared.offset.least if shared.offset else 0
        return moment_of(shared.now + elapsed_ms + least)

    async def _current(self) -> _Shared:
        shared = self._shared
        if shared is None or shared.offset is None or time.monotonic() - shared.came > EVERY:
            shared = self._shared = await self._exchanged()
        return shared

    async def _exchanged(self) -> _Shared:
        """Read the fleet's offset, and share what this process knows and the fleet does not."""
        shared = await self._run_script()
        reading = self._unshared(shared)
        if reading is None:
            return shared
        self._shared_reading = reading.at
        # Redis made its answer between the moments at which it was asked and came.
        low = reading.low * 1000 - (shared.now - shared.sent * 1000)
        high = reading.high * 1000 - (shared.now - shared.came * 1000)
        return await self._run_script(low, high, (time.monotonic() - reading.at) * 1000)

    def _unshared(self, shared: _Shared) -> _Reading | None:
        """The latest reading of this process; None if the fleet has it, or it is too old."""
        since = shared.came - keys.DINGTALK_CLOCK_TTL_MS / 1000
        if shared.offset:
            since = max(since, self._shared_reading)
        newer = (reading for reading in self._readings.values() if reading.at > since)
        return max(newer, key=lambda reading: reading.at, default=None)

    async def _run_script(
        self, low: float | None = None, high: float | None = None, age: float | None = None
    ) -> _Shared:
        sent = time.monotonic()
        call = _share_clock(
            reading=keys.DINGTALK_CLOCK,
            ttl=keys.DINGTALK_CLOCK_TTL_MS,
            drift=DRIFT,
            own_low=low,
            own_high=high,
            own_age=age,
        )
        answer: list[Any] = await run_async(self._redis, call)
        now, *offset = map(int, answer)
        return _Shared(now, sent, time.monotonic(), Offset(*offset) if offset else None)
