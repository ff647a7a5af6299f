"""Calls, waits and outcomes of the last day by quarter of an hour: one row each, written by the leader."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import delete, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.store import clock
from dingrelay_producers.store.states import State
from dingrelay_workers import minutes
from dingrelay_workers.backlog import estimate
from dingrelay_workers.database.database import Database, upsert
from dingrelay_workers.database.errors import answering
from dingrelay_workers.history.models import JobRow, QuarterRow
from dingrelay_workers.limiter.buckets import calls_of_all
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work

if TYPE_CHECKING:
    from dingrelay_workers.maintenance.clean_up import CleanUp

QUARTER = timedelta(minutes=15)
EVERY = 60.0
"""Seconds between two looks."""
LOOKED_AT = 5_000
"""Jobs of a place that a look takes one by one; of more a sample."""
SHOWN = 96
"""Quarters of a day."""
KEPT = timedelta(days=8)
TIMEOUT = 1.5
"""Seconds that a page waits for the database."""


class Quarter(NamedTuple):
    """A quarter of an hour; see `QuarterRow`."""

    at: datetime
    calls: int = 0
    waiting: int = 0
    done: int = 0
    failed: int = 0


class QuarterWriter(Work):
    """Writes the present quarter and the one before, which its last calls and ends reach a moment later.

    What was seen of a quarter never becomes less: Redis keeps minutes for a while only.

    Args:
        redis: where calls are counted and jobs wait.
        database: with the history.
        now: Redis's time.
    """

    database_away = SQLAlchemyError

    def __init__(self, redis: Redis, database: Database, now: Now) -> None:
        super().__init__()
        self._redis = redis
        self._database = database
        self._now = now

    async def tick(self) -> float:
        """Write both quarters; seconds until the next look."""
        # A database of an earlier release has other tables until the first use of it migrates them.
        if not await self._database.has(QuarterRow):
            return EVERY
        counted = await estimate.tally(self._redis, most=LOOKED_AT)
        waiting = sum(group.waiting for group in counted.groups)
        present = beginning_of(self._now())
        counters = await calls_of_all(self._redis)
        for at in (present - QUARTER, present):
            first = int(at.timestamp() // 60)
            calls = await minutes.total(self._redis, counters, range(first, first + 15))
            async with self._database.write("quarters") as connection:
                before = await _of(connection, at)
                done, failed = await _outcomes(connection, at)
                row = {
                    "at": at,
                    "calls": max(before.calls, calls),
                    "waiting": max(before.waiting, waiting if at == present else 0),
                    "done": max(before.done, done),
                    "failed": max(before.failed, failed),
                }
                await upsert(connection, QuarterRow, [row])
            self._step()
        return EVERY


def of_leader(parts: LeaderParts, now: Now) -> QuarterWriter:
    """The writer of a worker that leads."""
    return QuarterWriter(parts.records.redis, parts.database(), now)


class QuarterService:
    """The last day, for pages.

    Args:
        database: with its tables.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_day(self) -> Sequence[Quarter]:
        """The quarters of the last 24 hours, the present one last; none before the first was written.

        Raises:
            ServiceUnavailable: the database can't be used.
        """
        last = beginning_of(clock.now())
        first = last - QUARTER * (SHOWN - 1)
        query = select(QuarterRow.__table__).where(QuarterRow.at >= first)
        async with answering(TIMEOUT), self._database.read() as connection:
            rows = [Quarter(**row) for row in (await connection.execute(query)).mappings()]
        stored = {row.at: row for row in rows}
        places = [first + QUARTER * number for number in range(SHOWN)]
        return [stored.get(at, Quarter(at)) for at in places] if stored else []


async def clean_up(work: "CleanUp") -> None:
    """Delete the quarters that are older than `KEPT`."""
    async with work.database.write("quarters") as connection:
        await connection.execute(delete(QuarterRow).where(QuarterRow.at < work.now() - KEPT))


def beginning_of(moment: datetime) -> datetime:
    """When the quarter of a moment begins."""
    seconds = QUARTER.total_seconds()
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)


async def _of(connection: AsyncConnection, at: datetime) -> Quarter:
    query = select(QuarterRow.__table__).where(QuarterRow.at == at)
    row = (await connection.execute(query)).mappings().one_or_none()
    return Quarter(**row) if row else Quarter(at)


async def _outcomes(connection: AsyncConnection, at: datetime) -> tuple[int, int]:
    """Jobs that were done in a quarter, and those that failed or may have happened."""
    query = (
        select(JobRow.state, func.count())
        .where(JobRow.ended_at >= at, JobRow.ended_at < at + QUARTER)
        .group_by(JobRow.state)
    )
    rows: Sequence[Any] = (await connection.execute(query)).all()
    by_state = Counter[str]({row[0]: row[1] for row in rows})
    return by_state[State.DONE], by_state[State.DEAD] + by_state[State.UNKNOWN]
