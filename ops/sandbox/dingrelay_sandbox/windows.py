"""Three ways of counting so many things in so much time.

DingTalk's own messages show calendar seconds (API §5.2); what it really does is not documented, so
a client has to hold under each of them.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, Self

WindowKind = Literal["calendar", "sliding", "bucket"]


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit such as ``20/1s``.

    Attributes:
        limit: how many; at least 1.
        seconds: the length of the window.
    """

    limit: int
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """The rate in ``LIMIT/SECONDSs``.

        Raises:
            ValueError: when `text` is no rate.
        """
        limit, slash, window = text.strip().partition("/")
        try:
            rate = cls(int(limit), float(window.removesuffix("s")))
        except ValueError:
            raise ValueError(f"not a rate such as 20/1s: {text!r}") from None
        if not slash or rate.limit < 1 or not 0 < rate.seconds < math.inf:
            raise ValueError(f"not a rate such as 20/1s: {text!r}")
        return rate

    def __str__(self) -> str:
        return f"{self.limit}/{self.seconds:g}s"


class CalendarWindow:
    """Counts from zero in each stretch of the clock, such as each full second."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._stretch = -1
        self._count = 0

    def room(self, at: float) -> int:
        """How many more fit into the stretch of that time."""
        self._turn(at)
        return self._rate.limit - self._count

    def take(self, at: float, amount: int = 1) -> None:
        """Count in the stretch of that time."""
        self._turn(at)
        self._count += amount

    def frees_at(self, at: float) -> float:
        """The start of the next stretch."""
        return (math.floor(at / self._rate.seconds) + 1) * self._rate.seconds

    def _turn(self, at: float) -> None:
        stretch = math.floor(at / self._rate.seconds)
        if stretch != self._stretch:
            self._stretch, self._count = stretch, 0


class SlidingWindow:
    """Counts what lies within the last window, wherever that starts."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._entries: deque[tuple[float, int]] = deque()
        self._count = 0

    def room(self, at: float) -> int:
        """How many more fit into the window that ends at that time."""
        self._forget(at)
        return self._rate.limit - self._count

    def take(self, at: float, amount: int = 1) -> None:
        """Count at that time."""
        self._forget(at)
        self._entries.append((at, amount))
        self._count += amount

    def frees_at(self, at: float) -> float:
        """When the oldest count leaves the window."""
        return self._entries[0][0] + self._rate.seconds if self._entries else at

    def _forget(self, at: float) -> None:
        horizon = at - self._rate.seconds
        while self._entries and self._entries[0][0] <= horizon:
            self._count -= self._entries.popleft()[1]


class BucketWindow:
    """A token bucket: a whole window's worth at once, then at the steady rate."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._per_second = rate.limit / rate.seconds
        self._tokens = float(rate.limit)
        self._filled_at = -math.inf

    def room(self, at: float) -> int:
        """The whole tokens that are there at that time."""
        self._fill(at)
        return math.floor(self._tokens)

    def take(self, at: float, amount: int = 1) -> None:
        """Take tokens out."""
        self._fill(at)
        self._tokens -= amount

    def frees_at(self, at: float) -> float:
        """When the next whole token is there."""
        self._fill(at)
        return at + max(0.0, 1 - self._tokens) / self._per_second

    def _fill(self, at: float) -> None:
        if at > self._filled_at:
            gained = (at - self._filled_at) * self._per_second
            self._tokens = min(float(self._rate.limit), self._tokens + gained)
            self._filled_at = at


Window = CalendarWindow | SlidingWindow | BucketWindow
WINDOWS: dict[WindowKind, type[Window]] = {
    "calendar": CalendarWindow,
    "sliding": SlidingWindow,
    "bucket": BucketWindow,
}


def new_window(kind: WindowKind, rate: Rate) -> Window:
    """An empty window of that kind."""
    return WINDOWS[kind](rate)


class Peak:
    """The most that any interval of a length has held; it limits nothing."""

    def __init__(self, seconds: float) -> None:
        self._window = SlidingWindow(Rate(0, seconds))
        self.most = 0

    def add(self, at: float, amount: int = 1) -> None:
        """Note `amount` at that time."""
        self._window.take(at, amount)
        self.most = max(self.most, -self._window.room(at))
