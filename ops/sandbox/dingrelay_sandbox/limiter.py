"""The verdicts on rates: who has called, sent or reached too much."""

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
        self._egress: dict[str, SlidingWindow] = {}
        self._banned_until: dict[str, float] = {}
        self._recipients: dict[str, SlidingWindow] = {}
        self._robots: dict[str, SlidingWindow] = {}
        self._robot_penalty: dict[str, float] = {}
        self.used: dict[str, int] = {}
        """Counted calls by ``organisation month``."""

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
            self._egress.clear()
            self._banned_until.clear()
        if old.recipients != limits.recipients:
            self._recipients.clear()
        if old.robot != limits.robot:
            self._robots.clear()
            self._robot_penalty.clear()

    def shift(self, seconds: float) -> None:
        """Go on as before after the clock was set by so much; the quota's month is the clock's."""
        windows = [*self._egress.values(), *self._recipients.values(), *self._robots.values()]
        for window in [*windows, *filter(None, self._calls.values())]:
            window.shift(seconds)
        for until in (self._banned_until, self._robot_penalty):
            for key in until:
                until[key] += seconds

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
        if at < self._banned_until.get(address, 0):
            return False
        if self._limits.egress is None:
            return True
        window = self._egress.get(address)
        if window is None:
            window = self._egress[address] = SlidingWindow(self._limits.egress)
        if window.room(at) < 1:
            self._banned_until[address] = at + self._limits.egress_ban_seconds
            return False
        window.take(at)
        return True

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
        key = f"{organisation} {month(at)}"
        used = self.used.get(key, 0)
        if self._limits.quota is not None and used >= self._limits.quota:
            return False
        self.used[key] = used + 1
        return True

    def robot(self, token: str, at: float) -> bool:
        """Count a message of a webhook robot; False for the whole penalty (API §2.8)."""
        if at < self._robot_penalty.get(token, 0):
            return False
        if self._limits.robot is None:
            return True
        window = self._robots.get(token)
        if window is None:
            window = self._robots[token] = SlidingWindow(self._limits.robot)
        if window.room(at) < 1:
            self._robot_penalty[token] = at + self._limits.robot_penalty_seconds
            return False
        window.take(at)
        return True
