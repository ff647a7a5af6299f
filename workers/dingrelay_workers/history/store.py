"""Writes jobs that ended to their tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Insert, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.database import Database, chunks
from dingrelay_workers.history.models import JobRow, RecipientRow

WRITER = "history"
"""Whose transactions these are: only the leader of history writes them."""
ROWS = 5_000
"""Recipients in one statement."""
SLICE = 5_000
"""Jobs that are deleted in one transaction, so that nobody waits long for it."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """What is kept of a job.

    Attributes:
        row: the columns of `JobRow`.
        recipients: person → what became of the job for them.
    """

    row: dict[str, Any]
    recipients: dict[str, str]


async def write(database: Database, jobs: Sequence[EndedJob]) -> None:
    """Keep these jobs, each as of its latest end."""
    # One that was requeued may have ended twice since the last time.
    latest = {job.row["job"]: job for job in jobs}
    async with database.write(WRITER) as connection:
        dialect = connection.dialect.name
        await connection.execute(_put(dialect), [job.row for job in latest.values()])
        rows = [
            {"job": name, "user": user, "outcome": outcome, "at": job.row["ended_at"]}
            for name, job in latest.items()
            for user, outcome in job.recipients.items()
        ]
        for start in range(0, len(rows), ROWS):
            await connection.execute(_put_recipients(dialect), rows[start : start + ROWS])


async def delete_before(database: Database, moment: datetime) -> int:
    """Delete a slice of the jobs that ended before; how many there were."""
    async with database.write(WRITER) as connection:
        return await _delete_before(connection, moment)


async def _delete_before(connection: AsyncConnection, moment: datetime) -> int:
    old = select(JobRow.job).where(JobRow.ended_at < moment).order_by(JobRow.ended_at).limit(SLICE)
    jobs = list((await connection.scalars(old)).all())
    for some in chunks(jobs):
        await connection.execute(delete(RecipientRow).where(RecipientRow.job.in_(some)))
        await connection.execute(delete(JobRow).where(JobRow.job.in_(some)))
    return len(jobs)


def _put(dialect: str) -> Insert:
    """Insert jobs; of two ends the later one is kept, in whatever order they are written."""
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(JobRow)
    names = [column.name for column in JobRow.__table__.columns if column.name != "job"]
    statement: Insert = insert.on_conflict_do_update(
        index_elements=["job"],
        set_={name: insert.excluded[name] for name in names},
        where=insert.excluded.ended_at >= JobRow.ended_at,
    )
    return statement


def _put_recipients(dialect: str) -> Insert:
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(RecipientRow)
    statement: Insert = insert.on_conflict_do_update(
        index_elements=["job", "user"],
        set_={"outcome": insert.excluded.outcome, "at": insert.excluded.at},
        where=insert.excluded.at >= RecipientRow.at,
    )
    return statement
