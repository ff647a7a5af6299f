"""Deletes what each noun keeps for a time only."""

import time

from sqlalchemy.exc import SQLAlchemyError

from dingrelay_workers.database.schema import SchemaReaders
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work
from dingrelay_workers.nouns import NOUNS

EVERY = 3_600.0
"""Seconds between two rounds: times are set in days."""


class CleanUp(Work):
    """Has each noun delete what is too old, once an hour.

    Attributes:
        database: where it is kept.
        settings: for how long.
        now: Redis's time.
    """

    database_away = SQLAlchemyError

    def __init__(self, parts: LeaderParts, now: Now) -> None:
        super().__init__()
        self.database = parts.database()
        self.settings = parts.settings
        self.now = now
        self._due_at = 0.0

    def step(self) -> None:
        """A noun has deleted some of it, in a transaction that is over."""
        self._step()

    async def tick(self) -> None:
        """Go round the nouns where that is due."""
        # A database of an earlier release has other tables until the first use of it migrates them.
        if time.monotonic() < self._due_at or not await self.database.has(SchemaReaders):
            return
        for noun in NOUNS:
            for part in noun.clean_up:
                await noun.load(part)(self)
        self._due_at = time.monotonic() + EVERY
