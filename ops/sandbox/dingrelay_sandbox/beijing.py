"""DingTalk's calendar: days, months and texts are Beijing time, without summer time."""

from datetime import UTC, datetime, timedelta, timezone

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
