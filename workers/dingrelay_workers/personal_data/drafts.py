"""A person in drafts of campaigns: among the pasted people or in an uploaded list.

Who wrote a draft stays, as in the audit.
"""

import io
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import select

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import pasted
from dingrelay_workers.campaigns.audience import batches, resolved
from dingrelay_workers.campaigns.drafts import WRITER
from dingrelay_workers.campaigns.models import DraftRow
from dingrelay_workers.campaigns.recipients import Recipient, read
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.personal_data.subject import DataSubject, Erasing

_PASTED = ("pasted", "without_pasted")


async def export(database: Database, subject: DataSubject) -> list[dict[str, Any]]:
    """Every draft that names them."""
    return [
        {"draft": row.id, "app": row.app, "name": row.name, "updated_at": row.updated_at}
        async for row in _rows(database, subject)
        if await _without(database, row, subject.user)
    ]


async def erase(database: Database, erasing: Erasing) -> None:
    """Take the person out of drafts; a file with them goes as a whole."""
    async for row in _rows(database, erasing):
        if row.updated_at > erasing.since:
            continue
        if not (values := await _without(database, row, erasing.user)):
            continue
        async with database.write(WRITER) as connection:
            same = (DraftRow.id == row.id, DraftRow.version == row.version)
            values["version"] = row.version + 1
            changed = await change_rows(connection, DraftRow, *same, **values)
        if changed:
            erasing.changed["campaigns"] += 1
        else:
            erasing.leave("campaigns", row.id, en("a draft that was changed just now"))


async def _rows(database: Database, subject: DataSubject) -> AsyncIterator[Any]:
    """The drafts one by one: each may have a file."""
    async with database.read() as connection:
        names = list(await connection.scalars(subject.among(select(DraftRow.id), DraftRow.app)))
    for name in names:
        async with database.read() as connection:
            one = select(DraftRow.__table__).where(DraftRow.id == name)
            row = (await connection.execute(one)).one_or_none()
        if row is not None:
            yield row


async def _without(database: Database, row: Any, user: str) -> dict[str, Any]:
    """The columns of a draft that change without the person."""
    document = dict(row.document)
    for name in _PASTED:
        if text := document.get(name, ""):
            document[name] = await pasted.without(database, row.app, text, user)
    values: dict[str, Any] = {} if document == row.document else {"document": document}
    if row.file is not None and await _lists(database, row, user):
        values |= {"file": None, "file_name": ""}
    return values


async def _lists(database: Database, row: Any, user: str) -> bool:
    """Whether the uploaded list names the person; one that can't be read may."""
    column, encoding = row.document.get("column", ""), row.document.get("encoding", "")
    try:
        for batch in batches(read(io.BytesIO(row.file), (), column, encoding)):
            people = await resolved(database, row.app, batch)
            if any(isinstance(each, Recipient) and each.userid == user for each in people):
                return True
    except (ContractError, ServiceUnavailable):
        return user.encode() in row.file
    return False
