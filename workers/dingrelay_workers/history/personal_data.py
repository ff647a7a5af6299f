"""A person in the history: the jobs for them, and those that name them in what they asked for."""

import json
from typing import Any

from sqlalchemy import and_, exists, or_, select

from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import change_rows, chunks
from dingrelay_workers.database.person_columns import contains
from dingrelay_workers.history.models import UNRESOLVED, JobRow, RecipientRow
from dingrelay_workers.history.writer import WRITER
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every job that was for them or that names them; the latest first."""
    table = JobRow.__table__
    for_them = (
        select(table, RecipientRow.outcome)
        .outerjoin(RecipientRow, and_(RecipientRow.job == JobRow.job, *_is_for(subject)))
        .where(or_(RecipientRow.user.is_not(None), _may_name(subject)))
        .order_by(JobRow.created_at.desc())
    )
    async with stores.database.read() as connection:
        rows = (await connection.execute(subject.among(for_them, JobRow.app))).mappings().all()
    return [
        {**row, "content": _json(row["content"])}
        for row in rows
        if row["outcome"] is not None or _asks_for(row, subject)
    ]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take the person out of jobs that were accepted before; how many there were, and their ends, stay."""
    for_them = exists().where(RecipientRow.job == JobRow.job, *_is_for(erasing))
    columns = JobRow.job, JobRow.kind, JobRow.summary, JobRow.content
    query = select(*columns, for_them.label("for_them")).where(
        JobRow.created_at <= erasing.since, or_(for_them, _may_name(erasing))
    )
    async with stores.database.read() as connection:
        rows = (await connection.execute(erasing.among(query, JobRow.app))).mappings().all()
    jobs = [row["job"] for row in rows if row["for_them"] or _asks_for(row, erasing)]
    for batch in chunks(jobs):
        async with stores.database.write(WRITER) as connection:
            theirs = RecipientRow.job.in_(batch), *_is_for(erasing)
            await change_rows(connection, RecipientRow, *theirs, user=erasing.tombstone)
            await _drop_content(connection, batch)
        erasing.changed["history"] += len(batch)


async def _drop_content(connection: Any, jobs: list[str]) -> None:
    """Drop what jobs asked for, and their keys, into which applications often put a recipient."""
    of_path = JobRow.kind == ApiCall.kind
    await change_rows(connection, JobRow, JobRow.job.in_(jobs), content=None, key="")
    await change_rows(connection, JobRow, JobRow.job.in_(jobs), of_path, summary=ApiCall.kind)


def _is_for(subject: DataSubject) -> tuple[Any, Any]:
    return RecipientRow.user == subject.user, RecipientRow.outcome != UNRESOLVED


def _may_name(subject: DataSubject) -> Any:
    content = contains(JobRow.content, subject.user)
    return or_(content, JobRow.__people__.may_name(JobRow, subject.user))


def _asks_for(row: Any, subject: DataSubject) -> bool:
    """Whether what the job asked for names them, or the path of its call."""
    if row["kind"] == ApiCall.kind and JobRow.__people__.names(row, subject.user):
        return True
    kind, job = KINDS.get(row["kind"]), _json(row["content"])
    return kind is not None and subject.user in kind.people(job, {}, {})


def _json(content: str | None) -> Any:
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return content


PERSONAL_DATA = PersonalData(
    place="history", title=en("history"), tables=(JobRow, RecipientRow), export=export, erase=erase
)
