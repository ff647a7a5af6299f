"""A person in the history: the jobs for them, or sent by them."""

import json
from typing import Any

from sqlalchemy import ColumnElement, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.database.database import CHUNK, Database, change_rows, chunks
from dingrelay_workers.history.models import JobRow, RecipientRow
from dingrelay_workers.history.writer import WRITER
from dingrelay_workers.personal_data.subject import DataSubject, Erasing


async def export(connection: AsyncConnection, subject: DataSubject) -> list[dict[str, Any]]:
    """Every job that was for them, that names them, or that they asked for; the latest first."""
    table = JobRow.__table__
    for_them = (
        select(table, RecipientRow.outcome)
        .outerjoin(
            RecipientRow, (RecipientRow.job == JobRow.job) & (RecipientRow.user == subject.user)
        )
        .where(
            RecipientRow.user.is_not(None) | (JobRow.sender == subject.user) | _may_name(subject)
        )
        .order_by(JobRow.created_at.desc())
    )
    rows = (await connection.execute(subject.among(for_them, JobRow.app))).mappings()
    return [
        {**row, "content": _json(row["content"])}
        for row in rows
        if row["outcome"] is not None
        or row["sender"] == subject.user
        or subject.is_in(_json(row["content"]))
    ]


async def erase(database: Database, erasing: Erasing) -> None:
    """Take the person out of jobs that were accepted before; how many there were stays as it is."""
    for_them = erasing.among(
        select(JobRow.job)
        .join(RecipientRow, RecipientRow.job == JobRow.job)
        .where(RecipientRow.user == erasing.user, JobRow.created_at <= erasing.since)
        .limit(CHUNK),
        JobRow.app,
    )
    while True:
        async with database.write(WRITER) as connection:
            jobs = list(await connection.scalars(for_them))
            await _erase_jobs(connection, jobs, erasing)
            theirs = RecipientRow.job.in_(jobs), RecipientRow.user == erasing.user
            await change_rows(connection, RecipientRow, *theirs, user=erasing.tombstone)
        erasing.changed["history"] += len(jobs)
        if len(jobs) < CHUNK:
            break
    async with database.read() as connection:
        named = list(await connection.scalars(_named(erasing)))
    for some in chunks(named):
        async with database.write(WRITER) as connection:
            erasing.changed["history"] += await _erase_jobs(connection, some, erasing)


def _may_name(subject: DataSubject) -> ColumnElement[bool]:
    """Whether the content may name them: it is JSON as a text."""
    return or_(*(JobRow.content.contains(each, autoescape=True) for each in subject.spellings))


def _named(erasing: Erasing) -> Any:
    """Jobs that may name them otherwise: as who asked, or in what was asked for."""
    query = select(JobRow.job).where(
        JobRow.created_at <= erasing.since,
        (JobRow.sender == erasing.user) | _may_name(erasing),
    )
    return erasing.among(query, JobRow.app)


async def _erase_jobs(connection: AsyncConnection, jobs: list[str], erasing: Erasing) -> int:
    """Take them out of the rows of these jobs, but not yet out of their recipients."""
    if not jobs:
        return 0
    people = await connection.execute(
        select(
            RecipientRow.job,
            func.count().label("all"),
            func.sum(case((RecipientRow.user == erasing.user, 1), else_=0)).label("theirs"),
        )
        .where(RecipientRow.job.in_(jobs))
        .group_by(RecipientRow.job)
    )
    counts = [(row.job, row.all) for row in people if row.theirs]
    for_them = {job for job, _ in counts}
    alone = {job for job, people in counts if people == 1}
    columns = (JobRow.job, JobRow.kind, JobRow.sender, JobRow.key, JobRow.summary, JobRow.content)
    rows = (await connection.execute(select(*columns).where(JobRow.job.in_(jobs)))).all()
    changed = 0
    for row in rows:
        values = {
            "sender": erasing.tombstone if row.sender == erasing.user else row.sender,
            "summary": erasing.without_in_line(row.summary),
            # Applications often put the recipient into a message's key.
            "key": "" if erasing.user in row.key else row.key,
            "content": None
            if row.job in alone
            else _without(row.content, row.kind, erasing, is_for_them=row.job in for_them),
        }
        if values != {name: getattr(row, name) for name in values}:
            changed += await change_rows(connection, JobRow, JobRow.job == row.job, **values)
    return changed


def _without(content: str | None, kind: str, erasing: Erasing, *, is_for_them: bool) -> str | None:
    """The job's content without the person."""
    asked = _json(content)
    if not isinstance(asked, dict):
        return content
    left = erasing.without(asked)
    forget = KINDS[kind].forget if kind in KINDS else None
    # An address of a message may be theirs, though their userid is not in it.
    if forget is not None and (is_for_them or left != asked):
        forget({"payload": left}, {}, erasing.tombstone)
    return content if left == asked else json.dumps(left, ensure_ascii=False)


def _json(content: str | None) -> Any:
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return content
