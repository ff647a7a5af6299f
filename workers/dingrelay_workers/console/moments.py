"""Moments and ranges of time in the words of people."""

from collections.abc import Mapping
from datetime import datetime, tzinfo

from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.zone import zone as readers_zone
from dingrelay_tasks.sentence import en

MONTHS = en("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
RANGES: Mapping[str, str] = {
    "today": en("today"),
    "7d": en("7 days"),
    "30d": en("30 days"),
}
"""Beginning of a range, as it stands in the URL → words."""


def spoken(
    moment: datetime,
    now: datetime | None = None,
    zone: tzinfo | None = None,
    *,
    seconds: bool = False,
) -> str:
    """A moment as people say it: ``today 14:06``, ``Nov 28, 14:06``, with the year where it is another one.

    Args:
        moment: any.
        now: the present one if not given.
        zone: the reader's if not given.
        seconds: whether they are said.
    """
    zone = zone or readers_zone()
    at, today = moment.astimezone(zone), (now or clock.now()).astimezone(zone).date()
    time = at.strftime("%H:%M:%S" if seconds else "%H:%M")
    match (at.date() - today).days:
        case 0:
            return tr("today {time}", time=time)
        case -1:
            return tr("yesterday {time}", time=time)
        case 1:
            return tr("tomorrow {time}", time=time)
        case _:
            pass
    month = translated(MONTHS).split()[at.month - 1]
    if at.year == today.year:
        return tr("{month} {day}, {time}", month=month, day=at.day, time=time)
    return tr("{month} {day}, {year}, {time}", month=month, day=at.day, year=at.year, time=time)
