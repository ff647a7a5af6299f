"""How many chunks of which campaign may be under way: enough to keep the limits busy, no more.

What is under way when a campaign is paused may still be sent, and weighs in Redis. So the window
is about a second of the pace observed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import ClassVar

SMALLEST, LARGEST = 10, 500
"""Chunks under way."""
SECONDS = 1.25
"""Of the pace observed that the window holds. More than a second, so that it can grow."""
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


@dataclass(slots=True)
class Share:
    """One campaign's demand on a window.

    Attributes:
        weight: its share beside the others.
        most: chunks that it can use now.
    """

    weight: int
    most: int


class Stride:
    """Shares chunks among campaigns by weight: each goes further by 1 / weight with each chunk.

    Who has had nothing to ask for a while gains nothing by it.
    """

    def __init__(self) -> None:
        self._passed: dict[str, float] = {}

    def share(self, free: int, asked: dict[str, Share]) -> dict[str, int]:
        """How many of the free chunks each campaign gets."""
        wanting = {name: share for name, share in asked.items() if share.most > 0}
        start = self._start(wanting)
        got = dict.fromkeys(wanting, 0)
        for name in wanting:
            self._passed[name] = max(self._passed.get(name, start), start)
        for _ in range(free):
            hungry = [name for name, share in wanting.items() if got[name] < share.most]
            if not hungry:
                break
            name = min(hungry, key=self._passed.__getitem__)
            got[name] += 1
            self._passed[name] += 1 / max(1, wanting[name].weight)
        return got

    def keep(self, names: Iterable[str]) -> None:
        """Forget the campaigns that are not among these."""
        self._passed = {name: self._passed[name] for name in names if name in self._passed}

    def _start(self, wanting: Iterable[str]) -> float:
        """Start of a newcomer: level with the one that is least far."""
        return min((self._passed[name] for name in wanting if name in self._passed), default=0.0)


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
    """Of the rate that may be under way: what waits for the end of a pause leaves at once."""

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
