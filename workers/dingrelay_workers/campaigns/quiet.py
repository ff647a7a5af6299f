"""The hours of Beijing's day in which a campaign sends nothing."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from dingrelay_tasks.beijing import BEIJING

_SPAN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From one time of the day to another, over midnight if it comes first; or never.

    Attributes:
        begin: since midnight; as `end` if no hour is quiet.
        end: since midnight.
    """

    begin: timedelta
    end: timedelta

    @classmethod
    def parse(cls, text: str) -> Self:
        """The hours of a text such as ``22:00-08:00``; none of an empty one.

        Raises:
            ValueError: it is not like that, or leaves no time or all of it.
        """
        if not text:
            return cls(timedelta(0), timedelta(0))
        match = _SPAN.fullmatch(text)
        if match is None:
            raise ValueError("must be like 22:00-08:00, in Beijing's time")
        from_hour, from_minute, to_hour, to_minute = map(int, match.groups())
        begin = timedelta(hours=from_hour, minutes=from_minute)
        end = timedelta(hours=to_hour, minutes=to_minute)
        if begin == end:
            raise ValueError("begins when it ends")
        return cls(begin, end)

    def ends(self, moment: datetime) -> datetime | None:
        """When the quiet hours that hold a moment end; None if it is in none."""
        here = moment.astimezone(BEIJING)
        since = self._since_begin(here)
        length = (self.end - self.begin) % _DAY
        return moment + (length - since) if since < length else None

    def begins(self, moment: datetime) -> datetime | None:
        """When the next quiet hours begin; None if there are none."""
        if self.begin == self.end:
            return None
        return moment + (_DAY - self._since_begin(moment.astimezone(BEIJING)))

    def finish(self, start: datetime, work: timedelta) -> datetime:
        """When work that starts then is done, if it rests in the quiet hours."""
        moment = self.ends(start) or start
        while (pause := self.begins(moment)) is not None and moment + work > pause:
            work -= pause - moment
            moment = self.ends(pause) or pause
        return moment + work

    def _since_begin(self, here: datetime) -> timedelta:
        midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
        return (here - midnight - self.begin) % _DAY
