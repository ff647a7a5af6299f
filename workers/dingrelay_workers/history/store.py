"""Writes jobs that ended to their tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.database.database import Database, chunks, upsert
from dingrelay_workers.history.models import JobRow, RecipientRow

WRITER = "history"
"""Whose transactions these are: only the leader of history writes them."""
ROWS = 5_000
"""Recipients in one statement."""
SLICE = 5_000
"""Jobs that are deleted in one transaction, so that other writers do not wait long for it."""


@dataclass(frozen=True, slots=True)
class EndedJob:
    """A job as the history keeps it.

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
        # Of two ends the later one is kept, in whatever order they are written.
        ended = [job.row for job in latest.values()]
        await upsert(connection, JobRow, ended, latest_by="ended_at")
        rows = [
            {"job": name, "user": user, "outcome": outcome, "at": job.row["ended_at"]}
            for name, job in latest.items()
            for user, outcome in job.recipients.items()
        ]
        for some in chunks(rows, ROWS):
            await upsert(connection, RecipientRow, some, latest_by="at")


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
