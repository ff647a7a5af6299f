"""When a campaign may send, and how many chunks its rate lets go."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import ClassVar, NamedTuple, Self, TypeVar

from dingrelay_tasks.beijing import BEIJING
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns.chunks import Counts
from dingrelay_workers.campaigns.models import CampaignRow

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
        in_beijing = moment.astimezone(BEIJING)
        since = self._since_begin(in_beijing)
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

    def _since_begin(self, local_time: datetime) -> timedelta:
        midnight = local_time.replace(hour=0, minute=0, second=0, microsecond=0)
        return (local_time - midnight - self.begin) % _DAY


SMALLEST, LARGEST = 10, 500
"""Chunks under way."""
SECONDS = 1.25
"""Length of the window in seconds of the observed pace. More than a second, so that it can grow."""
MEMORY = 1.0
"""Seconds over which the pace is averaged."""


class Window:
    """The window of one app. The pace is measured as chunks settle."""

    def __init__(self) -> None:
        self._pace = 0.0
        self._at: float | None = None

    @property
    def size(self) -> int:
        """Chunks that may be under way."""
        return round(min(max(self._pace * SECONDS, SMALLEST), LARGEST))

    def settled(self, chunks: int, now: float) -> None:
        """So many chunks settled since the last time."""
        if self._at is not None and now > self._at:
            elapsed = now - self._at
            share = min(1.0, elapsed / MEMORY)
            self._pace += (chunks / elapsed - self._pace) * share
        self._at = now


class ShareRequest(NamedTuple):
    """The chunks that a campaign could release now.

    Attributes:
        sender: of the campaign, with its app.
        weight: beside the sender's other campaigns.
        most: chunks that it can use.
    """

    sender: tuple[str, str]
    weight: int
    most: int


class Stride:
    """Shares chunks evenly among senders, and each sender's among its campaigns by weight.

    With each chunk a sender goes further by 1, and the campaign by 1 / weight; the one that is least far is next. Who
    has had nothing to ask for a while gains nothing by it.
    """

    def __init__(self) -> None:
        self._senders: dict[tuple[str, str], float] = {}
        self._campaigns: dict[str, float] = {}

    def share(self, free: int, requests: Mapping[str, ShareRequest]) -> dict[str, int]:
        """How many of the free chunks each campaign of an app gets."""
        wanting = {name: request for name, request in requests.items() if request.most > 0}
        got = dict.fromkeys(wanting, 0)
        campaigns: dict[tuple[str, str], list[str]] = {}
        for name, request in wanting.items():
            campaigns.setdefault(request.sender, []).append(name)
        _catch_up(self._senders, campaigns)
        for names in campaigns.values():
            _catch_up(self._campaigns, names)
        for _ in range(free):
            if not campaigns:
                break
            sender = min(campaigns, key=self._senders.__getitem__)
            name = min(campaigns[sender], key=self._campaigns.__getitem__)
            got[name] += 1
            self._senders[sender] += 1
            self._campaigns[name] += 1 / max(1, wanting[name].weight)
            if got[name] == wanting[name].most:
                campaigns[sender].remove(name)
                if not campaigns[sender]:
                    del campaigns[sender]
        return got

    def keep(self, campaigns: Collection[str], senders: Collection[tuple[str, str]]) -> None:
        """Forget all that are not among these."""
        self._campaigns = {name: far for name, far in self._campaigns.items() if name in campaigns}
        self._senders = {name: far for name, far in self._senders.items() if name in senders}


_Name = TypeVar("_Name")


def _catch_up(far: dict[_Name, float], wanting: Iterable[_Name]) -> None:
    """Bring those who ask level with the one of them that is least far, of those who asked before."""
    start = min((far[name] for name in wanting if name in far), default=0.0)
    far.update({name: max(far.get(name, start), start) for name in wanting})


@dataclass(frozen=True, slots=True)
class Allowance:
    """People that a campaign with a rate of its own may send to, at a moment of Redis's clock.

    It is kept in the campaign's row, so it outlives the dispatcher. A chunk goes once nothing is
    owed for those before it, so no minute holds more than the rate and one chunk.
    """

    people: float
    at: datetime

    BURST_SECONDS: ClassVar[float] = 0.5
    UNDER_WAY_SECONDS: ClassVar[float] = 3.0
    """Seconds of the rate that may be under way: jobs that wait for the end of a pause leave at once."""

    def later(self, rate: int, now: datetime) -> "Allowance":
        """At another moment, at `rate` people a minute. A clock that steps back gives nothing."""
        elapsed = max(0.0, (now - self.at).total_seconds())
        most = rate / 60 * self.BURST_SECONDS
        return Allowance(min(self.people + elapsed * rate / 60, most), now)

    def chunks(self, rate: int, size: int, under_way: int) -> int:
        """Chunks of `size` people that may go now, with so many under way."""
        most = max(1, ceil(rate / 60 * self.UNDER_WAY_SECONDS / max(1, size)))
        free = 0 if self.people < 0 else 1 + int(self.people / max(1, size))
        return max(0, min(free, most - under_way))


REMEMBERED = 100
"""Calls whose people are the latest; those before them fade."""
ENOUGH = 5
"""Finished calls needed before their share of failures counts."""
FAILED = 3
"""Calls that failed, before that is taken for more than bad luck."""


class Latest(NamedTuple):
    """The latest people whose outcome is known.

    Attributes:
        people: how many they are.
        failed: how many of them failed.
    """

    people: float
    failed: float

    def after(self, counts: Counts, campaign: CampaignRow) -> "Latest":
        """With what has just ended."""
        failed = self.failed + counts.failed - counts.lost
        people = self.people + counts.accepted + counts.left_out + counts.failed - counts.lost
        fade = min(1.0, REMEMBERED * campaign.chunk_size / max(1.0, people))
        return Latest(people * fade, failed * fade)

    def stop(self, counts: Counts, campaign: CampaignRow) -> str:
        """Why the campaign had better stop, now that some failed; "" for nothing."""
        return str(self) if counts.failed > counts.lost and self.too_many(campaign) else ""

    def too_many(self, campaign: CampaignRow) -> bool:
        """Whether so many of them failed that the campaign had better stop."""
        enough = min(ENOUGH, campaign.chunks) * campaign.chunk_size
        failures = min(FAILED, campaign.chunks) * campaign.chunk_size
        share = self.failed / max(1.0, self.people)
        return (
            self.people >= min(enough, campaign.recipients)
            and self.failed >= min(failures, campaign.recipients)
            and share >= campaign.error_share
        )

    def __str__(self) -> str:
        return en("{:.0f} of the latest {:.0f} people failed", self.failed, self.people)


def may_send(campaign: CampaignRow, now: datetime) -> bool:
    """Whether its time has come, outside of its quiet hours."""
    if campaign.start_at is not None and now < campaign.start_at:
        return False
    return QuietHours.parse(campaign.quiet).ends(now) is None


def allowance(campaign: CampaignRow, now: datetime) -> Allowance:
    """The people that the campaign's rate allows now, a rate being set."""
    return Allowance(campaign.rate_credit, campaign.rate_at or now).later(campaign.rate or 0, now)


def allowed(campaign: CampaignRow, now: datetime, most: int, under_way: int) -> int:
    """How many chunks its rate lets go, `most` at most."""
    if campaign.rate is None:
        return most
    size = campaign.chunk_size
    return min(most, allowance(campaign, now).chunks(campaign.rate, size, under_way))
