"""Records of jobs that ended, for those who report them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_producers.store.record import READ
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.status import STEP
from dingrelay_workers.outbox.endings import Ending

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
    found: list[EndedRecord] = []
    for start in range(0, len(endings), AT_ONCE):
        some = endings[start : start + AT_ONCE]
        call = READ.call(
            [keys.job(ending.id) for ending in some],
            [LONGEST, *(int(with_payload(each)) for each in some)],
        )
        answers = await run_async(redis, call)
        found += [_record(*pair) for pair in zip(some, answers, strict=True)]
    return found


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
