"""Messages that DingTalk took, who really got which, and the silent limits that decide it (API §2.1)."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from dingrelay_sandbox.call import Call
from dingrelay_sandbox.clock import day
from dingrelay_sandbox.limits import Limiter
from dingrelay_sandbox.windows import Peak

DELIVERED = ""
Channel = Literal["work", "robot"]
Reachable = Callable[[str], str]
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
    """One accepted call. `task_id` is DingTalk's id of it."""

    task_id: int
    channel: Channel
    app_key: str
    content: Content
    call_id: int
    at: float
    entries: list["Entry"] = field(default_factory=list["Entry"])
    recalled: bool = False
    status_bar: dict[str, str] | None = None
    invalid_departments: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient of one send.

    Attributes:
        reason: why they got nothing: ``unknown_user``, ``scope`` or a number of DingTalk's (API §2.3);
            empty where the message arrived.
    """

    user: str
    send: Send
    reason: str


@dataclass(slots=True)
class _Day:
    """Sends of an app on one Beijing day: the recipients of each message, and the count of each person."""

    got: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    received: Counter[str] = field(default_factory=Counter[str])
    everyone: int = 0


class Sends:
    """All sends, and the state of the silent limits.

    Attributes:
        inboxes: person → what was sent to them, whether or not it arrived, oldest first.
        contents: by their message.
        delivered: how many messages arrived.
        reached: the people who got anything.
        dropped: reason → recipients that silently got nothing.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._days: dict[tuple[str, str], _Day] = {}
        self._peaks: dict[str, Peak] = {}
        self.inboxes: dict[str, list[Entry]] = {}
        self.contents: dict[str, Content] = {}
        self.sends: list[Send] = []
        self.delivered = 0
        self.reached: set[str] = set()
        self.dropped: Counter[str] = Counter()

    def everyone_left(self, app_key: str, at: float) -> bool:
        """Count a send to everyone; False when the day's are used up."""
        today = self._today(app_key, at)
        if today.everyone >= self._limiter.limits.everyone_day:
            return False
        today.everyone += 1
        return True

    def deliver(
        self, call: Call, channel: Channel, said: object, users: Sequence[str], reachable: Reachable
    ) -> Send:
        """Take a message for these users; the silent limits decide who gets it.

        Args:
            call: what brought it.
            channel: a robot's messages are not under the silent limits.
            said: the message; what is equal as JSON is the same content.
            users: the recipients as asked for.
            reachable: empty, or why a user cannot be reached.
        """
        message = json.dumps(said, ensure_ascii=False, sort_keys=True)
        content = self.contents.setdefault(message, Content(message))
        task_id, app_key, at = FIRST_TASK_ID + len(self.sends), call.caller.app_key, call.at
        send = Send(task_id, channel, app_key, content, call.id, at)
        self.sends.append(send)
        today = self._today(app_key, at)
        silent = channel == "work"
        if silent:
            peak = self._peaks.setdefault(app_key, Peak(RECIPIENT_SECONDS))
            peak.add(self._limiter.clock.steady(at), len(users))
        for user in users:
            reason = reachable(user) or (self._silent(today, send, user) if silent else DELIVERED)
            entry = Entry(user, send, reason)
            send.entries.append(entry)
            self.inboxes.setdefault(user, []).append(entry)
            if reason:
                self.dropped[reason] += 1
            else:
                self._arrived(today, content, user)
        return send

    def find(self, task_id: int) -> Send | None:
        """The send with a task id."""
        number = task_id - FIRST_TASK_ID
        return self.sends[number] if 0 <= number < len(self.sends) else None

    def drops(self) -> Iterator[Entry]:
        """The entries of those that got nothing, oldest first."""
        return (entry for send in self.sends for entry in send.entries if entry.reason)

    def most_recipients(self) -> int:
        """The most recipients of one app's accepted calls in any minute."""
        return max((peak.most for peak in self._peaks.values()), default=0)

    def _silent(self, today: _Day, send: Send, user: str) -> str:
        """Why this person gets nothing, or empty."""
        limits = self._limiter.limits
        if limits.same_content and (user, send.content.message) in today.got:
            return "143106"
        if today.received[user] >= limits.user_day:
            return "143105"
        if len(send.entries) >= limits.recipients_per_call:
            return "41029"
        if not self._limiter.recipient(send.app_key, send.at):
            return "143103"
        return DELIVERED

    def _arrived(self, today: _Day, content: Content, user: str) -> None:
        self.delivered += 1
        self.reached.add(user)
        content.delivered += 1
        content.repeated += (user, content.message) in today.got
        today.got.add((user, content.message))
        today.received[user] += 1

    def _today(self, app_key: str, at: float) -> _Day:
        date = day(at)
        known = self._days.get((app_key, date))
        if known is None:
            # The clock may be set back over midnight: the other day is still known then.
            for key in [key for key in self._days if key[0] == app_key][:-1]:
                del self._days[key]
            known = self._days[app_key, date] = _Day()
        return known
