"""The verdicts on rates: who has called, sent or reached too much."""

from collections import Counter
from dataclasses import dataclass

from dingrelay_sandbox.clock import month
from dingrelay_sandbox.limits import Limits
from dingrelay_sandbox.windows import Rate, SlidingWindow, Window, new_window


@dataclass(frozen=True, slots=True)
class Breach:
    """A call too many.

    Attributes:
        rate: the rate that it breaks.
        until: when there is room again, in Unix seconds.
    """

    rate: Rate
    until: float


class Limiter:
    """Counts against the limits. All times are Unix seconds of the sandbox's clock."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._calls: dict[tuple[str, str], Window | None] = {}
        self._egress = _Penalties()
        self._recipients: dict[str, SlidingWindow] = {}
        self._robots = _Penalties()
        self.used: dict[str, int] = {}
        """Counted calls by ``organisation month``."""
        self.messages: Counter[str] = Counter()
        """Webhook & Stream messages likewise, and those of robots by ``token month``."""

    @property
    def limits(self) -> Limits:
        """The limits in force."""
        return self._limits

    def change(self, limits: Limits) -> None:
        """Put other limits in force; what is counted against an unchanged one stays."""
        old, self._limits = self._limits, limits
        if (old.calls, old.apis, old.window) != (limits.calls, limits.apis, limits.window):
            self._calls.clear()
        if old.egress != limits.egress:
            self._egress = _Penalties()
        if old.recipients != limits.recipients:
            self._recipients.clear()
        if old.robot != limits.robot:
            self._robots = _Penalties()

    def shift(self, seconds: float) -> None:
        """Go on as before after the clock was set by so much; the quota's month is the clock's."""
        for window in (*self._recipients.values(), *self._calls.values()):
            if window is not None:
                window.shift(seconds)
        self._egress.shift(seconds)
        self._robots.shift(seconds)

    def call(self, app_key: str, path: str, at: float) -> Breach | None:
        """Count a call of an app on an API path, or say why not."""
        key = (app_key, path)
        if key not in self._calls:
            rate = self._limits.calls_of(path)
            self._calls[key] = new_window(self._limits.window, rate) if rate else None
        window = self._calls[key]
        if window is None:
            return None
        if window.room(at) >= 1:
            window.take(at)
            return None
        rate = self._limits.calls_of(path)
        assert rate is not None, "a window has a rate"
        return Breach(rate, window.frees_at(at))

    def egress(self, address: str, at: float) -> bool:
        """Count a call from an address; False while it is banned (API §6)."""
        return self._egress.take(address, at, self._limits.egress, self._limits.egress_ban_seconds)

    def recipients(self, app_key: str, at: float, wanted: int) -> int:
        """How many of `wanted` people an app may still reach in this minute; they are counted."""
        if self._limits.recipients is None:
            return wanted
        window = self._recipients.get(app_key)
        if window is None:
            window = self._recipients[app_key] = SlidingWindow(self._limits.recipients)
        granted = min(wanted, window.room(at))
        if granted:
            window.take(at, granted)
        return granted

    def quota(self, organisation: str, at: float) -> bool:
        """Count a call against an organisation's month; False when the month is used up."""
        return _take(self.used, f"{organisation} {month(at)}", self._limits.quota)

    def push(self, organisation: str, at: float) -> bool:
        """Count a Webhook & Stream message likewise."""
        return _take(self.messages, f"{organisation} {month(at)}", self._limits.pushes)

    def robot_month(self, token: str, at: float, most: int | None) -> bool:
        """Count a message of a webhook whose administrator lets it post so many a month."""
        return _take(self.messages, f"{token} {month(at)}", most)

    def robot(self, token: str, at: float) -> bool:
        """Count a message of a webhook robot; False for the whole penalty (API §2.8)."""
        return self._robots.take(token, at, self._limits.robot, self._limits.robot_penalty_seconds)


def _take(counts: dict[str, int], key: str, most: int | None) -> bool:
    """Count one, unless there are as many as there may be."""
    if most is not None and counts.get(key, 0) >= most:
        return False
    counts[key] = counts.get(key, 0) + 1
    return True


class _Penalties:
    """Windows by key; one that is full closes for a while."""

    def __init__(self) -> None:
        self._windows: dict[str, SlidingWindow] = {}
        self._closed_until: dict[str, float] = {}

    def take(self, key: str, at: float, rate: Rate | None, seconds: float) -> bool:
        """Count one; False while the key's window is closed."""
        if at < self._closed_until.get(key, 0):
            return False
        if rate is None:
            return True
        window = self._windows.setdefault(key, SlidingWindow(rate))
        if window.room(at) < 1:
            self._closed_until[key] = at + seconds
            return False
        window.take(at)
        return True

    def shift(self, seconds: float) -> None:
        """Go on as before after the clock was set by so much."""
        for window in self._windows.values():
            window.shift(seconds)
        for key in self._closed_until:
            self._closed_until[key] += seconds
