"""DingTalk's calendar: its days and months are those of Beijing (API §6)."""

from datetime import UTC, datetime, timedelta, timezone

BEIJING = timezone(timedelta(hours=8))
"""China has one zone and no summer time."""


def now() -> datetime:
    """The present."""
    return datetime.now(UTC)


def day(moment: datetime) -> str:
    """The Beijing day of a moment, such as ``2026-11-24``."""
    return moment.astimezone(BEIJING).date().isoformat()


def month(moment: datetime) -> str:
    """The Beijing month of a moment, such as ``2026-11``."""
    return day(moment)[: len("2026-11")]
