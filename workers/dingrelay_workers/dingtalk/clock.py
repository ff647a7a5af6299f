"""DingTalk's clock, from the ``Date`` of its answers."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

EVERY = 5.0
"""Seconds between two readings of a host: clocks hardly move apart in that time."""
RESOLUTION = 1.0
"""Seconds of ``Date``: the answer was made within this time after it."""
DRIFT = 1e-3
"""Seconds a second by which two clocks may move apart; a poor quartz has a tenth of it."""


@lru_cache(maxsize=4)  # answers of one second tell one moment
def moment(date: str) -> datetime | None:
    """Parse a ``Date``; None if it is invalid."""
    try:
        read = parsedate_to_datetime(date)
    except (ValueError, OverflowError):
        return None
    return read if read.tzinfo else read.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Reading:
    """DingTalk's time less the monotonic clock, in seconds, between two bounds."""

    low: float
    high: float
    at: float


class DingTalkClock:
    """The clock of each of DingTalk's hosts, against this process's monotonic clock.

    An answer was made between the moments at which its request left and it came, and within a
    second after its ``Date``. What one answer leaves open, the next ones narrow down.
    """

    def __init__(self) -> None:
        self._readings: dict[str, _Reading] = {}

    def observe(self, host: str, date: str | None, *, sent: float, came: float) -> None:
        """Take note of an answer's ``Date``; `sent` and `came` are of the monotonic clock."""
        known = self._readings.get(host)
        if not date or (known and came - known.at < EVERY):
            return
        read = moment(date)
        if read is None:
            return
        shown = read.timestamp()
        low, high = shown - came, shown + RESOLUTION - sent
        if known:
            drift = (came - known.at) * DRIFT
            narrowed = max(low, known.low - drift), min(high, known.high + drift)
            if narrowed[0] <= narrowed[1]:  # otherwise a clock was set
                low, high = narrowed
        self._readings[host] = _Reading(low, high, came)

    def now(self) -> int | None:
        """The time there at the earliest, in ms since the epoch; None before any answer."""
        if not self._readings:
            return None
        return int((min(known.low for known in self._readings.values()) + time.monotonic()) * 1000)

    def less(self, other: int) -> int | None:
        """This clock less another one that shows `other` now, in ms; None before any answer."""
        now = self.now()
        return None if now is None else now - other
