"""Messages that DingTalk took, who really got which, and the silent limits that decide it (API §2.1)."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dingrelay_sandbox.clock import day
from dingrelay_sandbox.limits import Limiter
from dingrelay_sandbox.windows import Peak

DELIVERED = ""
REASONS = (DELIVERED, "unknown_user", "scope", "143103", "143105", "143106", "41029")
"""Why a recipient got nothing; the numbers are DingTalk's (API §2.3)."""
_NUMBERS = {reason: number for number, reason in enumerate(REASONS)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient of one send. `reason` is empty where the message arrived."""

    user: str
    send: int
    reason: str


class Inboxes:
    """Every recipient of every send."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._last = array("I")
        """By person: 1 + the index of their last entry, 0 for none."""
        self._user = array("I")
        self._send = array("I")
        self._reason = array("B")
        self._previous = array("I")
        self.delivered = 0
        self.reached = 0
        """How many people got anything."""
        self.dropped: Counter[str] = Counter()
        self._has = bytearray()

    def number(self, userid: str) -> int:
        """The person's number here; people are numbered as they are met."""
        number = self._numbers.get(userid)
        if number is None:
            number = self._numbers[userid] = len(self._names)
            self._names.append(userid)
            self._last.append(0)
            self._has.append(0)
        return number

    def add(self, person: int, send: int, reason: str) -> None:
        """Note what became of a send for a person."""
        self._user.append(person)
        self._send.append(send)
        self._reason.append(_NUMBERS[reason])
        self._previous.append(self._last[person])
        self._last[person] = len(self._user)
        if reason:
            self.dropped[reason] += 1
            return
        self.delivered += 1
        if not self._has[person]:
            self._has[person] = 1
            self.reached += 1

    @property
    def size(self) -> int:
        """How many entries there are; an entry's index stays."""
        return len(self._user)

    def entry(self, index: int) -> Entry:
        """The entry at an index."""
        name = self._names[self._user[index]]
        return Entry(name, self._send[index], REASONS[self._reason[index]])

    def of(self, userid: str) -> list[Entry]:
        """All entries of a person, oldest first."""
        found: list[Entry] = []
        number = self._numbers.get(userid)
        index = 0 if number is None else self._last[number]
        while index:
            found.append(self.entry(index - 1))
            index = self._previous[index - 1]
        found.reverse()
        return found

    def drops(self) -> Iterator[Entry]:
        """The entries of those that got nothing, oldest first."""
        for index, reason in enumerate(self._reason):
            if reason:
                yield self.entry(index)


Channel = Literal["work", "robot"]

FIRST_TASK_ID = 256_000_000_001
RECIPIENT_SECONDS = 60


@dataclass(slots=True)
class Content:
    """One text that was sent, however often.

    Attributes:
        message: the `msg` object as JSON.
        delivered: how many times it arrived anywhere.
        repeated: how many of these went to a person who already had it that day.
    """

    message: str
    delivered: int = 0
    repeated: int = 0


@dataclass(slots=True)
class Send:
    """One accepted call; its recipients are the inbox entries from `first` to `end`."""

    number: int
    channel: Channel
    app_key: str
    content: int
    call_id: int
    at: float
    first: int
    end: int = 0
    recalled: bool = False
    status_bar: dict[str, str] | None = None
    invalid_departments: Sequence[int] = ()

    @property
    def task_id(self) -> int:
        """DingTalk's id of it."""
        return FIRST_TASK_ID + self.number


@dataclass(slots=True)
class _Day:
    """What an app has sent on one Beijing day."""

    got: dict[int, set[int]] = field(default_factory=dict[int, set[int]])
    """Content → the people that have it."""
    received: "array[int]" = field(default_factory=lambda: array("H"))
    """By person: how many messages."""
    everyone: int = 0


class Sends:
    """All sends, and the state of the silent limits."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._days: dict[tuple[str, str], _Day] = {}
        self._contents: dict[str, int] = {}
        self._peaks: dict[str, Peak] = {}
        self.inboxes = Inboxes()
        self.contents: list[Content] = []
        self.sends: list[Send] = []

    def everyone_left(self, app_key: str, at: float) -> bool:
        """Count a send to everyone; False when the day's are used up."""
        today = self._today(app_key, at)
        if today.everyone >= self._limiter.limits.everyone_day:
            return False
        today.everyone += 1
        return True

    def deliver(
        self,
        channel: Channel,
        app_key: str,
        message: str,
        users: Sequence[str],
        *,
        reachable: Callable[[str], str],
        call_id: int,
        at: float,
    ) -> Send:
        """Take a message for these users; the silent limits decide who gets it.

        Args:
            channel: a robot's messages are not under the silent limits.
            app_key: the app that sends.
            message: the `msg` object as canonical JSON; equal text is the same content.
            users: the recipients as asked for.
            reachable: empty, or why a user cannot be reached.
            call_id: the call that brought it.
            at: Unix seconds.
        """
        content = self._content(message)
        send = Send(len(self.sends), channel, app_key, content, call_id, at, self.inboxes.size)
        self.sends.append(send)
        today = self._today(app_key, at)
        silent = channel == "work"
        if silent:
            self._peak(app_key).add(at, len(users))
        for userid in users:
            person = self.inboxes.number(userid)
            reason = reachable(userid)
            if not reason and silent:
                reason = self._silent(today, send, person)
            self.inboxes.add(person, send.number, reason)
            if not reason:
                self._arrived(today, content, person)
        send.end = self.inboxes.size
        return send

    def shift(self, seconds: float) -> None:
        """Go on counting minutes after the clock was set by so much; days are the clock's."""
        for peak in self._peaks.values():
            peak.shift(seconds)

    def find(self, task_id: int) -> Send | None:
        """The send with a task id."""
        number = task_id - FIRST_TASK_ID
        return self.sends[number] if 0 <= number < len(self.sends) else None

    def most_recipients(self) -> int:
        """The most recipients of one app's accepted calls in any minute."""
        return max((peak.most for peak in self._peaks.values()), default=0)

    def _silent(self, today: _Day, send: Send, person: int) -> str:
        """Why this person gets nothing, or empty."""
        limits = self._limiter.limits
        if limits.same_content and person in today.got.get(send.content, ()):
            return "143106"
        if person < len(today.received) and today.received[person] >= limits.user_day:
            return "143105"
        if self.inboxes.size - send.first >= limits.recipients_per_call:
            return "41029"
        if not self._limiter.recipients(send.app_key, send.at, 1):
            return "143103"
        return DELIVERED

    def _arrived(self, today: _Day, content: int, person: int) -> None:
        got = today.got.setdefault(content, set())
        entry = self.contents[content]
        entry.delivered += 1
        if person in got:
            entry.repeated += 1
        got.add(person)
        if person >= len(today.received):
            today.received.extend([0] * (person + 1 - len(today.received)))
        today.received[person] = min(today.received[person] + 1, 65_535)

    def _today(self, app_key: str, at: float) -> _Day:
        date = day(at)
        known = self._days.get((app_key, date))
        if known is None:
            # The clock may be set back over midnight: the other day is still known then.
            for key in [key for key in self._days if key[0] == app_key][:-1]:
                del self._days[key]
            known = self._days[app_key, date] = _Day()
        return known

    def _content(self, message: str) -> int:
        number = self._contents.get(message)
        if number is None:
            number = self._contents[message] = len(self.contents)
            self.contents.append(Content(message))
        return number

    def _peak(self, app_key: str) -> Peak:
        if app_key not in self._peaks:
            self._peaks[app_key] = Peak(RECIPIENT_SECONDS)
        return self._peaks[app_key]
