"""Personal data as a body sees it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass over everything that is kept led to.

    Attributes:
        changed: how many rows and records it took the person out of.
        left: how many it had to leave for now.
        next_at: when the first of these can be erased, where that is known.
    """

    changed: int
    left: int
    next_at: datetime | None


class PersonalData(Protocol):
    """Everything that is kept of people."""

    async def erase(self, user: str, *, app: str | None, since: datetime, tombstone: str) -> Pass:
        """Take a person out of whatever was kept of them at a moment, and is needed no more.

        Args:
            user: their userid.
            app: of this app only; None for all.
            since: that moment. Jobs and data from later are not touched.
            tombstone: what stands where their userid stood.
        """
        ...
