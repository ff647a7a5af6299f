"""Who really got which message: a log of deliveries in which each points to the person's last one.

Four numbers a recipient, in arrays: a million recipients weigh 13 MB.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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
