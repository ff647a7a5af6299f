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
    in_beijing = moment.astimezone(BEIJING)
    month_start = in_beijing.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    elapsed = max(in_beijing - month_start, timedelta(hours=1))
    return elapsed / timedelta(days=monthrange(in_beijing.year, in_beijing.month)[1])
