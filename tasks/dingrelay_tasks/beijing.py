"""DingTalk's calendar: its days and months are those of Beijing (API §6)."""

from calendar import monthrange
from datetime import datetime, timedelta, timezone

BEIJING = timezone(timedelta(hours=8))
"""China has one zone and no summer time."""


def day(moment: datetime) -> str:
    """The Beijing day of a moment, such as ``2026-11-24``."""
    return moment.astimezone(BEIJING).date().isoformat()


def month(moment: datetime) -> str:
    """The Beijing month of a moment, such as ``2026-11``."""
    return day(moment)[: len("2026-11")]


def share_of_month(moment: datetime) -> float:
    """How much of its Beijing month is over at a moment; an hour of it at least."""
    here = moment.astimezone(BEIJING)
    first = here.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    gone = max(here - first, timedelta(hours=1))
    return gone / timedelta(days=monthrange(here.year, here.month)[1])
