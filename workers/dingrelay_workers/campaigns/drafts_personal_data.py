"""A person in what is written of campaigns: among the pasted people or in an uploaded list."""

import io
from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import select

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import pasted
from dingrelay_workers.campaigns.audience import batches
from dingrelay_workers.campaigns.documents import DraftContent
from dingrelay_workers.campaigns.matching import resolved
from dingrelay_workers.campaigns.models import HIDDEN, CampaignRow, State
from dingrelay_workers.campaigns.recipients import Recipient, read
from dingrelay_workers.campaigns.sources import Written
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores

_PASTED = ("pasted", "without_pasted")
_COLUMNS = (
    *("id", "app", "name", "state", "chunks", "content", "file", "version"),
    *("created_at", "updated_at"),
)


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every campaign whose text of people, or whose file, names them."""
    drafts: list[dict[str, Any]] = []
    async for row in _rows(stores.database, subject):
        try:
            names_person = bool(await _without(stores.database, row, subject.user))
        except (ContractError, ServiceUnavailable):
            names_person = subject.user.encode() in row.file
        if names_person:
            about = {"draft": row.id, "app": row.app, "name": row.name}
            drafts.append({**about, "updated_at": row.updated_at})
    return drafts


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take the person out of what is written; a file with them goes as a whole."""
    database = stores.database
    async for row in _rows(database, erasing):
        if row.created_at > erasing.since:
            continue
        try:
            values = await _without(database, row, erasing.user)
        except ServiceUnavailable:
            _leave(erasing, row, en("a list that can't be read just now, and may have them"))
            continue
        except ContractError:
            if erasing.user.encode() in row.file:
                reason = en("a list that can't be read, and may have them")
                _leave(erasing, row, reason, en("upload it again, or delete the campaign"))
            continue
        if not values:
            continue
        async with database.write(f"campaign {row.id}") as connection:
            same = (CampaignRow.id == row.id, CampaignRow.version == row.version)
            if row.state == State.DRAFT and not row.chunks:
                values |= {"version": row.version + 1, "lease_at": None}
            changed = await change_rows(connection, CampaignRow, *same, **values)
        if changed:
            erasing.changed["drafts"] += 1
        else:
            _leave(erasing, row, en("a draft that was changed just now"))


def _leave(erasing: Erasing, row: Any, reason: str, hint: str = "") -> None:
    erasing.leave("drafts", row.id, reason, hint=hint)
    erasing.looked_up.add(row.app)


async def _rows(database: Database, subject: DataSubject) -> AsyncIterator[Any]:
    """The campaigns with content one by one: each may have a file."""
    written = select(CampaignRow.id).where(
        CampaignRow.state.not_in(HIDDEN), CampaignRow.content.is_not(None)
    )
    async with database.read() as connection:
        names = list(await connection.scalars(subject.among(written, CampaignRow.app)))
    for name in names:
        async with database.read() as connection:
            query = select(*(getattr(CampaignRow, column) for column in _COLUMNS))
            row = (await connection.execute(query.where(CampaignRow.id == name))).one_or_none()
        if row is not None:
            yield row


async def _without(database: Database, row: Any, user: str) -> dict[str, Any]:
    """The columns of a campaign that change without the person.

    Raises:
        ContractError, ServiceUnavailable: its list can't be read.
    """
    content = dict(row.content)
    for name in _PASTED:
        if text := content.get(name, ""):
            content[name] = await pasted.without(database, row.app, text, user)
    values: dict[str, Any] = {} if content == row.content else {"content": content}
    if row.file is not None and await _lists(database, row, user):
        values |= {"file": None, "file_name": ""}
        if row.chunks:
            # Without all of its sources it is its chunks that say who gets it, and they lose none of the others.
            rules = Written(DraftContent.parse(row.content)).without_people.content
            values["content"] = rules.model_dump(mode="json", exclude_defaults=True)
    return values


async def _lists(database: Database, row: Any, user: str) -> bool:
    """Whether the uploaded list names the person, or has a row that may mean them."""
    column, encoding = row.content.get("column", ""), row.content.get("encoding", "")
    for batch in batches(read(io.BytesIO(row.file), (), column, encoding)):
        people = await resolved(database, row.app, batch)
        for person in people:
            if user in ([person.userid] if isinstance(person, Recipient) else person.users):
                return True
    return False


PERSONAL_DATA = PersonalData(place="drafts", title=en("drafts"), export=export, erase=erase)
