"""The sandbox's own clock, which may be wrong, and DingTalk's calendar: Beijing time without summer time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from email.utils import formatdate


class Clock:
    """Unix seconds of the sandbox.

    Args:
        base: the time of the machine.
    """

    def __init__(self, base: Callable[[], float]) -> None:
        self._base = base
        self._second = -1
        self._date = ""
        self.offset = 0.0
        """Seconds by which it is ahead of the machine; negative: behind."""

    def __call__(self) -> float:
        """The time now, in Unix seconds."""
        return self._base() + self.offset

    def steady(self, at: float) -> float:
        """One of its times by the machine's clock, which goes on when this one is set."""
        return at - self.offset

    def date(self) -> str:
        """The time now as the ``Date`` header of an answer, which has whole seconds."""
        second = int(self())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True)
        return self._date


BEIJING = timezone(timedelta(hours=8))


def day(at: float) -> str:
    """The Beijing day of a Unix time, as ``2026-11-24``."""
    return f"{datetime.fromtimestamp(at, BEIJING):%Y-%m-%d}"


def month(at: float) -> str:
    """The Beijing month of a Unix time, as ``2026-11``."""
    return f"{datetime.fromtimestamp(at, BEIJING):%Y-%m}"


def clock(at: float) -> str:
    """A Unix time as the old API writes it: ``2026-11-24 15:04:05``."""
    return f"{datetime.fromtimestamp(at, BEIJING):%Y-%m-%d %H:%M:%S}"


def iso_minute(at: float) -> str:
    """A Unix time as the new API writes it: ``2026-11-24T07:04Z``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%MZ}"
