"""The ends of jobs, as readers of them read: each at its own pace, each end at least once.

The transition that ends a job writes the end in the same script (`store/lua/endings.lua`), so it
costs no round trip and is never written without being true. The stream holds entries that some
reader has not read, up to `keys.MOST_ENDINGS`; those unread beyond that are counted for the reader
that missed them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys, transitions
from dingrelay_producers.store.script_functions import Key, Prelude, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.status import STEP
from dingrelay_tasks.contract import batched

WEBHOOKS = "webhooks"
"""The reader whose notices come from it."""

_PACKAGE = "dingrelay_workers.outbox"
_READ = Prelude(_PACKAGE, "endings_read")


@script(_PACKAGE, _READ)
def _read_endings(*, stream: Key, marks: Key, reader: str, ttl: int, most: int) -> None:
    """Marks live for `ttl` (ms)."""


@script(_PACKAGE, _READ)
def _pass_endings(
    *,
    stream: Key,
    marks: Key,
    reader: str,
    ttl: int,
    mark: str,
    last: str,
    number: int,
    awaited: Sequence[str],
) -> None:
    """The reader's `mark` was this, and its last entry is this one; readers without a mark are `awaited`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A job that ended.

    Attributes:
        sender: of the job; empty if not given.
        state: the end.
        at: when, in ms of Redis's clock.
    """

    id: str
    kind: str
    app: str
    sender: str
    state: str
    at: int


@dataclass(frozen=True, slots=True)
class Page:
    """Ends that a reader has not read, the oldest first.

    Attributes:
        missed: how many went before it came to read them.
        mark: up to where it had read before.
        last: id of the last entry, and its number; None where there is none.
    """

    endings: Sequence[Ending]
    missed: int
    mark: str
    last: tuple[str, int] | None


class Endings:
    """The ends of jobs from the side of one reader.

    Args:
        reader: its name. Processes that read under one name share what they have read.
    """

    def __init__(self, redis: Redis, reader: str) -> None:
        self._redis = redis
        self._reader = reader

    async def read(self, most: int) -> Page:
        """The next ones. They come again until they are passed, whatever other readers pass."""
        call = _read_endings(
            stream=keys.ENDINGS,
            marks=keys.ENDINGS_READ,
            reader=self._reader,
            ttl=keys.ENDINGS_TTL_MS,
            most=most,
        )
        mark, before, missed, entries = await run_async(self._redis, call)
        last = (entries[-1][0].decode(), before + len(entries)) if entries else None
        return Page([_ending(fields) for _, fields in entries], missed, mark.decode(), last)

    async def pass_(self, page: Page, *, awaited: Sequence[str] = ()) -> bool:
        """Mark the page as read; False: another process has passed it, or more.

        Args:
            page: as it was read.
            awaited: readers that the entries stay for even if they have not read anything yet.
        """
        if page.last is None:
            return True
        last, number = page.last
        call = _pass_endings(
            stream=keys.ENDINGS,
            marks=keys.ENDINGS_READ,
            reader=self._reader,
            ttl=keys.ENDINGS_TTL_MS,
            mark=page.mark,
            last=last,
            number=number,
            awaited=awaited,
        )
        return bool(await run_async(self._redis, call))


def _ending(fields: Sequence[Any]) -> Ending:
    texts = [field.decode(errors="replace") for field in fields]
    values = dict(zip(texts[::2], texts[1::2], strict=True))
    return Ending(
        id=values.get("id", ""),
        kind=values.get("kind", ""),
        app=values.get("app", ""),
        sender=values.get("sender", ""),
        state=values.get("state", ""),
        at=int(values.get("at", 0)),
    )


LONGEST = 100_000
"""Bytes of a field that is read: Redis does nothing else while it hands out a larger one."""
AT_ONCE = 50
"""Records that are read in one round trip: it blocks Redis for a millisecond or two."""

_OF_THE_END = (b"result", b"error", b"resolved")
"""Fields that only the end of a job writes."""


@dataclass(frozen=True, slots=True)
class EndedRecord:
    """The record of a job that ended, as it was when it ended.

    Attributes:
        fields: of the record; without those that tell of the end if the job has run again since.
        omitted: names of fields that were too long to be read.
    """

    ending: Ending
    fields: dict[bytes, bytes]
    omitted: frozenset[str]


async def read_records(
    redis: Redis, endings: Sequence[Ending], *, with_payload: Callable[[Ending], bool]
) -> list[EndedRecord]:
    """The records of these jobs; of one whose record is gone, the data of its ending."""
    records: list[EndedRecord] = []
    for batch in batched(endings, AT_ONCE):
        call = transitions.read_records(
            records=[keys.job(ending.id) for ending in batch],
            longest=LONGEST,
            with_payload=[with_payload(ending) for ending in batch],
        )
        answers = await run_async(redis, call)
        records += [_record(*pair) for pair in zip(batch, answers, strict=True)]
    return records


def _record(ending: Ending, answer: Sequence[Any]) -> EndedRecord:
    fields: dict[bytes, bytes] = {}
    omitted: set[str] = set()
    for name, value in zip(answer[::2], answer[1::2], strict=True):
        if name:
            fields[name] = value
        else:
            omitted.add(value.decode(errors="replace"))
    state, settled = ending.state.encode(), str(ending.at).encode()
    if (fields.get(b"state"), fields.get(b"settled")) != (state, settled):
        steps = STEP.encode()
        fields = {
            name: value
            for name, value in fields.items()
            if name not in _OF_THE_END and not name.startswith(steps)
        }
    fields |= {b"state": state, b"settled": settled}
    return EndedRecord(ending, fields, frozenset(omitted))
