"""Messages that a worker takes from a broker that is a Redis, so that none is lost: scripts, marks and renewals.

kombu pops a message, and marks it as taken by a second command: what is popped into a dying connection is
lost. Here Redis does both in one step. What waits already is taken by a script, several messages at a time.
Where nothing waits, one ``BLMOVE`` a queue moves the next message to a list of this worker, and the next script from
there to its marks. A worker renews its marks and names what it holds; all else goes back to its queue.

A wake-up needs no mark, since its job has a record and is on the schedule: taking it costs no write but the pop.

Nothing here does any I/O: each method returns what Redis is to run, so that a blocking connection and an event
loop share it. How messages are handed to Celery is in `transport.py`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_producers.store import keys
from dingrelay_producers.store.script_functions import Key, Keys, Prelude, script
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.transitions import TIME

LEASE_MS = 30_000
"""How long marks belong to this worker without renewal."""
WAIT = 1
"""Seconds that Redis waits for a message at most."""
GATHERED = 100
"""Messages of a list of one priority that are moved at once."""
OLD_SECONDS = 30
"""Seconds that kombu's marks are left to workers of 0.2.0: what these hold longer has a record, or is a wake-up."""
OLD_MARKS = 100
"""Marks of kombu's that are looked at in one script."""
KOMBUS_MARKS = ("unacked", "unacked_index")
"""Keys where kombu's transport has its marks."""

WAKEUP = f'"{WOKEN_HEADER}"'.encode()
"""Marker of wake-ups, which no other message holds: in a text the quotes would be escaped."""

Becomes = Literal["done", "back", "refused"]

_PACKAGE = "dingrelay_workers.celery_worker"
_PUT_BACK = Prelude(_PACKAGE, "put_back")


class _Landed(NamedTuple):
    """A list to which a wait has moved a message, and the tag to mark that with; empty for none."""

    list: str
    tag: str


class _Unmarked(NamedTuple):
    """A message that has no mark."""

    queue: str
    text: bytes


@script(_PACKAGE, TIME)
def _take_messages(
    *,
    registry: Key,
    marks: Key,
    queues: Keys,
    room: int,
    wakeup: bytes,
    lease: int,
    number: int,
    separator: str,
    gathered: int,
    landed: Sequence[_Landed],
) -> None:
    """Take as many as there is room for, the first with this number.

    `wakeup` is what each wake-up has in it. Lists of a priority have the separator after the name of their queue; so many
    messages of such a list are moved at most, and with 0 none is looked at.
    """


@script(_PACKAGE, TIME, _PUT_BACK)
def _keep_taken(*, registry: Key, marks: Key, lists: Keys, lease: int, tags: Sequence[str]) -> None:
    """Waits may move messages to the lists; the tags are of the messages that the worker holds."""


@script(_PACKAGE, _PUT_BACK)
def _close_taken(*, places: Keys, unmarked: Sequence[_Unmarked]) -> None: ...


@script(_PACKAGE)
def _finish_message(
    *,
    marks: Key,
    queue: Key,
    refused: Key,
    list: Key | None,  # noqa: A002 - as Redis calls it
    becomes: Becomes,
    tag: str,
    text: bytes,
    most: int,
    bytes: int,  # noqa: A002 - as Python calls them
    ttl: int,
) -> None:
    """A wait moved the message to the list. Of what is refused so many texts are kept, of so many bytes, for so long (ms)."""


@script(_PACKAGE)
def _restore_unacked(
    *, unacked: Key, index: Key, seconds: int, skipped: int, most: int, queues: Sequence[str]
) -> None:
    """Kombu's marked messages are left to their takers for so long; look at `most` of its marks behind those `skipped`."""


@dataclass(slots=True)
class Taken:
    """A message that was taken and is not done with.

    Attributes:
        tag: its name, which no other message has, whatever its client calls it.
        queue: where it was.
        text: as it was there.
        place: key where Redis has it: the marks, or a list to which a wait moved it; empty for a wake-up.
    """

    tag: str
    queue: str
    text: bytes
    place: str = ""


class Taking:
    """The messages that one connection to the broker has taken.

    Args:
        separator: what the name of a list for one priority has between queue and number.

    Attributes:
        held: the messages by their tags.
        priorities: lists for one priority that have held messages.
    """

    def __init__(self, separator: str) -> None:
        self.held: dict[str, Taken] = {}
        self.priorities: set[str] = set()
        self._separator = separator
        self._owner = uuid4().hex
        self._marks = keys.taken_marks(self._owner)
        self._landed: list[Taken] = []
        self._number = self._first = 0
        self._old_marks = 0

    def take(self, queues: Sequence[str], room: int, *, priorities: bool = False) -> Call:
        """Take what waits, of the first queue first; `taken` reads the answer before the next is asked for.

        Args:
            queues: where messages are.
            room: how many at most.
            priorities: whether what other clients publish with a priority is looked for.
        """
        landed, self._landed = self._landed, []
        self._first, self._number = self._number, self._number + room
        moved: list[_Landed] = []
        for message in landed:
            list_key, message.place = message.place, self._place(message.text)
            moved.append(_Landed(list_key, message.tag if message.place else ""))
        return _take_messages(
            registry=keys.TAKEN,
            marks=self._marks,
            queues=queues,
            room=room,
            wakeup=WAKEUP,
            lease=LEASE_MS,
            number=self._first,
            separator=self._separator,
            gathered=GATHERED if priorities else 0,
            landed=moved,
        )

    def taken(self, queues: Sequence[str], answer: Sequence[Any]) -> list[Taken]:
        """The messages that `take` took, in order; they are held from now on."""
        lists, *pairs = answer
        self.priorities.update(name.decode() for name in lists)
        messages: list[Taken] = []
        for index, text in zip(pairs[::2], pairs[1::2], strict=True):
            number, queue = self._first + len(messages), queues[int(index) - 1]
            messages.append(self._hold(number, queue, text, self._place(text)))
        return messages

    def sources(self, queues: Sequence[str]) -> list[str]:
        """The lists where messages of these queues may come: theirs, and those of `priorities`."""
        lists = (name for name in self.priorities if self._queue(name) in queues)
        return [*queues, *lists]

    def wait(self, source: str) -> tuple[str | int, ...]:
        """The command that waits for a message in one of `sources`.

        `renew` must have named the source before: else the message would be in a list that is never put back.
        """
        return ("BLMOVE", source, self._list(source), "RIGHT", "LEFT", WAIT)

    def landed(self, source: str, text: bytes) -> Taken:
        """The message for which a wait has ended; the next `take` marks it."""
        message = self._hold(self._number, self._queue(source), text, self._list(source))
        self._number += 1
        self._landed.append(message)
        return message

    def finish(self, tag: str, becomes: Becomes) -> Call | None:
        """End what this worker has to do with a message; None if Redis need not know.

        Args:
            tag: of the message.
            becomes: ``done``, ``back`` as the next of its queue, or ``refused``, for an operator to look at.
        """
        message = self.held.pop(tag)
        if not message.place and becomes == "done":
            return None
        waited = message in self._landed
        if waited:
            self._landed.remove(message)
        return _finish_message(
            marks=self._marks,
            queue=message.queue,
            refused=keys.REFUSED,
            list=message.place if waited else None,
            becomes=becomes,
            tag=tag,
            text=b"" if becomes == "done" else message.text,
            most=keys.REFUSED_TEXTS,
            bytes=keys.REFUSED_BYTES,
            ttl=keys.REFUSED_TTL_MS,
        )

    def renew(self, sources: Iterable[str]) -> Call:
        """Renew what is held and the lists of these waits; all else of this and of dead workers goes back."""
        tags = [message.tag for message in self.held.values() if message.place == self._marks]
        return _keep_taken(
            registry=keys.TAKEN,
            marks=self._marks,
            lists=[*self._lists(sources)],
            lease=LEASE_MS,
            tags=tags,
        )

    def restore_old(self, queues: Sequence[str]) -> Call:
        """Put back what workers of 0.2.0 had taken from these queues; `restored` reads the answer."""
        unacked, index = KOMBUS_MARKS
        return _restore_unacked(
            unacked=unacked,
            index=index,
            seconds=OLD_SECONDS,
            skipped=self._old_marks,
            most=OLD_MARKS,
            queues=queues,
        )

    def restored(self, passed: int) -> bool:
        """Whether `restore_old` has seen all marks of kombu's."""
        self._old_marks = passed
        return not passed

    def close(self, sources: Iterable[str]) -> Call:
        """Put back all that is held, and what these waits have moved since then."""
        unmarked = [message for message in self.held.values() if not message.place]
        lists = self._lists(sources)
        self.held, self._landed = {}, []
        unmarked_messages = [
            _Unmarked(message.queue, message.text) for message in reversed(unmarked)
        ]
        return _close_taken(places=[self._marks, *lists], unmarked=unmarked_messages)

    def _hold(self, number: int, queue: str, text: bytes, place: str) -> Taken:
        # The script that takes messages makes the tags of their marks in the same way.
        message = Taken(f"{number}:{queue}", queue, text, place)
        self.held[message.tag] = message
        return message

    def _place(self, text: bytes) -> str:
        """Key that a message is at while this worker has it; empty for none."""
        return "" if WAKEUP in text else self._marks

    def _list(self, source: str) -> str:
        return keys.taken(self._owner, source)

    def _lists(self, sources: Iterable[str]) -> set[str]:
        """Lists to which these waits move messages, and of ended ones those with messages that have no mark yet."""
        return {*map(self._list, sources), *(message.place for message in self._landed)}

    def _queue(self, source: str) -> str:
        return source.partition(self._separator)[0]
