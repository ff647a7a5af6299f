"""Order of two reads, which may be written in the wrong order.

A read is as old as the claim of the job that makes it, by Redis's clock: a moment before the read
leaves, and after the event that asked for it. So whatever changed before an event is in the read that
the event leads to and in all that are newer, and the newest one of each row is right in the end.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import InstrumentedAttribute

from dingrelay_workers.directory.runs import Run

CLOCK_SET_BACK_MS = 3_600_000
"""A read is written within the minutes of a job's run. What a row holds from more than an hour later
was read before Redis's clock was set back, or Redis taken over by a server whose clock is behind."""


def is_newer(held: int, run: Run) -> bool:
    """Whether a row was read after the run's answers."""
    return run.read_at < held <= run.read_at + CLOCK_SET_BACK_MS


def is_not_newer(held: InstrumentedAttribute[int], run: Run) -> ColumnElement[bool]:
    """The opposite of `is_newer`, for the column of a table."""
    return or_(held <= run.read_at, held > run.read_at + CLOCK_SET_BACK_MS)


@dataclass(frozen=True, slots=True)
class HeldAnswer:
    """The fields of a row, and when they were read.

    Attributes:
        fields: all that were ever read.
        read_at: the read of the fields that lists have, too.
        detailed_at: the read of the details, which no list has.
    """

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    read_at: int = 0
    detailed_at: int = 0

    def taken(
        self, answer: Mapping[str, Any], run: Run, details: Collection[str]
    ) -> dict[str, Any]:
        """The given fields to take: all but those that the row holds from a later read.

        A field that a newer read did not return is not taken from an older one.
        """
        return {
            name: value
            for name, value in answer.items()
            if name not in self.fields
            or not is_newer(self.detailed_at if name in details else self.read_at, run)
        }

    def left_out(
        self, answer: Mapping[str, Any], run: Run, details: Collection[str], *, listed: bool
    ) -> set[str]:
        """Fields of the row that the run's answer lacks; no list of people holds the details."""
        return {
            name
            for name, value in self.fields.items()
            if value
            and name != "unionid"
            and name not in answer
            and not (listed and name in details)
            and not is_newer(self.detailed_at if name in details else self.read_at, run)
        }

    def after(self, fields: Mapping[str, Any], run: Run, details: Collection[str]) -> "HeldAnswer":
        """The row's answer after that one is taken."""
        detailed = any(name in details for name in fields)
        listed = any(name not in details for name in fields)
        return HeldAnswer(
            {**self.fields, **fields},
            _later(self.read_at, run) if listed else self.read_at,
            _later(self.detailed_at, run) if detailed else self.detailed_at,
        )


def _later(held: int, run: Run) -> int:
    return held if is_newer(held, run) else run.read_at
