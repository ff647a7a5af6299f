"""Drafts: what is to become a campaign, while people write it.

A draft is saved with the version that its editor has read. An older version overwrites nothing, and the editor learns
who was faster. `Drafts.freeze` makes a campaign of it, whose people and text stay as they are.
"""

import io
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple, cast

from pydantic import BaseModel
from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.engine import RowMapping
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.client.campaign_documents import (
    CampaignPreview,
    CampaignStatus,
    Malformed,
    Plan,
    SkippedRow,
)
from dingrelay_producers.errors import CampaignNotFound, DraftConflict, DraftNotFound
from dingrelay_producers.settings import Settings
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en, writable
from dingrelay_workers.campaigns import estimate, pasted, removal, workbook
from dingrelay_workers.campaigns.audience import batches, resolved
from dingrelay_workers.campaigns.documents import DraftContent
from dingrelay_workers.campaigns.models import CampaignRow, DraftRow, State
from dingrelay_workers.campaigns.recipients import NoPeopleColumn, Recipient, read
from dingrelay_workers.campaigns.service import FileReaders, opened_store
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database, latest_first
from dingrelay_workers.directory import audience as directory

LARGEST_FILE = 10_000_000
"""Bytes of a file with people: some 300,000 rows. A larger one makes a campaign without a draft."""
KEPT = timedelta(days=180)
"""After which a draft without a change is deleted: it names people."""
WRITER = "campaign drafts"
MOST_PARSED = 500
"""Pasted names that are looked up at once; the check of a draft looks up all."""
LISTED = 200
"""Drafts in a list."""


class CampaignDraft(BaseModel, from_attributes=True):
    """A draft as it is stored."""

    id: str
    version: int
    """One more with each change; a change names the version that it was made from."""
    content: DraftContent
    file_name: str
    """Name of the uploaded list of people; empty for none."""
    file_bytes: int
    created_by: str
    updated_by: str
    updated_at: datetime
    campaign: str | None
    """The campaign that was made of it last."""


class PastedPerson(BaseModel):
    """A person that a pasted text names."""

    line: int
    """Line of the text, from 1."""
    userid: str
    name: str
    """Name in the directory; empty if it has none."""


class PastedPeople(BaseModel):
    """The people that a pasted text names, and what names none or several."""

    people: list[PastedPerson]
    """Ordered as in the text; a person who is named twice is there twice."""
    problems: list[SkippedRow]
    complete: bool
    """Whether all was looked up, and not the first 500 entries only."""


class FileCount(NamedTuple):
    """Rows of a file, the people they name, without those the directory lacks, and its columns."""

    rows: int
    people: int
    columns: Sequence[str]


class Drafts:
    """The drafts of all apps.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
    """

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._readers = FileReaders(settings, database)

    async def create(
        self, content: Mapping[str, Any], by: str, draft: str | None = None
    ) -> CampaignDraft:
        """A new draft, with this id if one is given.

        Raises:
            ContractError: names the field that is wrong.
        """
        draft = draft or str(uuid.uuid4())
        row = {
            **_columns(DraftContent.parse(content)),
            "id": draft,
            "file_name": "",
            "version": 1,
            "writers": [by],
            "created_by": by,
            "updated_by": by,
            "updated_at": datetime.now(UTC),
        }
        async with self._opened() as store, store.database.write(WRITER) as connection:
            await connection.execute(insert(DraftRow), row)
            return _document(await _find(connection, draft))

    async def get(self, draft: str) -> CampaignDraft:
        """The draft with this id.

        Raises:
            DraftNotFound: there is none.
        """
        async with self._opened() as store, store.database.read() as connection:
            return _document(await _find(connection, draft))

    async def list(
        self,
        apps: Collection[str] | None = None,
        *,
        limit: int = LISTED,
        behind: tuple[datetime, str] | None = None,
    ) -> Sequence[CampaignDraft]:
        """Drafts of these apps, or of any, whose campaign was not started, latest first, behind one of this moment and id."""
        started = select(CampaignRow.id).where(
            CampaignRow.id == DraftRow.campaign,
            CampaignRow.state.not_in([State.DRAFT, State.CREATING]),
        )
        query = _query().where(~started.exists())
        query = latest_first(query, DraftRow.updated_at, DraftRow.id, behind=behind, limit=limit)
        if apps is not None:
            query = query.where(DraftRow.app.in_(apps))
        async with self._opened() as store, store.database.read() as connection:
            return [_document(row) for row in (await connection.execute(query)).mappings()]

    async def of_campaign(self, campaign: str) -> CampaignDraft | None:
        """The draft of which this campaign was made last; None if there is none."""
        query = _query().where(DraftRow.campaign == campaign)
        async with self._opened() as store, store.database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        return None if row is None else _document(row)

    async def save(
        self, draft: str, version: int, changes: Mapping[str, Any], by: str
    ) -> CampaignDraft:
        """Change some fields of a draft; null is a field's default. What changes nothing makes no version.

        Args:
            draft: its id.
            version: that the changes were made from.
            changes: field of `DraftContent` → value.
            by: who changes it.

        Raises:
            DraftNotFound: there is none with this id.
            DraftConflict: another change was saved since that version.
            ContractError: names the field that is wrong.
        """
        async with self._opened() as store, store.database.write(WRITER) as connection:
            row = await _find(connection, draft)
            content = DraftContent.parse({**row["document"], **changes})
            values = _columns(content)
            if all(row[name] == value for name, value in values.items()):
                return _document(row)
            return await _change(connection, row, version, values, by)

    async def put_file(
        self, draft: str, version: int, name: str, file: bytes | None, by: str
    ) -> tuple[CampaignDraft, FileCount]:
        """Give a draft a list of people: CSV, an Excel file or lines of JSON; None takes it away.

        Raises:
            DraftNotFound, DraftConflict: as `save`.
            ContractError: it is too large, empty or no table, or does not say which column names people.
        """
        if len(file or b"") > LARGEST_FILE:
            raise ContractError("file", en("may have {:,} bytes", LARGEST_FILE))
        values, counted = {"file": file, "file_name": ""}, FileCount(0, 0, ())
        if file is not None:
            values["file_name"] = writable(name).replace("\0", "")[:255]
            content = (await self.get(draft)).content
            counted = await self._readers.run(lambda store: _count(store, content, name, file))
        async with self._opened() as store, store.database.write(WRITER) as connection:
            row = await _find(connection, draft)
            return await _change(connection, row, version, values, by), counted

    async def delete(self, draft: str) -> None:
        """Delete a draft; a campaign that was made of it stays.

        Raises:
            DraftNotFound: there is none.
        """
        async with self._opened() as store, store.database.write(WRITER) as connection:
            await _find(connection, draft)
            await connection.execute(delete(DraftRow).where(DraftRow.id == draft))

    async def check(self, draft: str) -> CampaignPreview:
        """Check a draft: its cost, and the people that it would not reach. Only reads.

        Raises:
            DraftNotFound: there is none with this id.
            ContractError, MalformedRecipients: as `freeze`.
            ServiceUnavailable: the database or Redis can't be used.
        """

        async def check(store: CampaignStore) -> CampaignPreview:
            _, plan = await _read(store, draft)
            return await estimate.of_plan(self._settings, store.database, plan)

        return await self._readers.run(check)

    async def parse_pasted(self, app: str, text: str) -> PastedPeople:
        """The people that a pasted text names, and what names none or several."""
        entries = list(islice(pasted.entries(text), MOST_PARSED + 1))
        async with self._opened() as store:
            rows = await pasted.resolve(store.database, app, entries[:MOST_PARSED])
            users = [each for each in rows if isinstance(each, Recipient)]
            known = await directory.fields(store.database, app, {each.userid for each in users})
        return PastedPeople(
            people=[
                PastedPerson(
                    line=each.line,
                    userid=each.userid,
                    name=str(known.get(each.userid, {}).get("name") or ""),
                )
                for each in users
            ],
            problems=[SkippedRow.of(row) for row in rows if isinstance(row, Malformed)],
            complete=len(entries) <= MOST_PARSED,
        )

    async def testers(self, draft: CampaignDraft, text: str) -> Sequence[str]:
        """The userids of the people of a pasted text, who get a test.

        Raises:
            ContractError: one is not in the directory, or a name is that of several.
        """
        app = draft.content.app
        found = await self.parse_pasted(app, text)
        users = [each.userid for each in found.people]
        async with self._opened() as store:
            gone = await directory.left_users(store.database, app, users)
        problems = [each.problem for each in found.problems]
        if problems := problems or [en("{} is no person in the directory", each) for each in gone]:
            raise ContractError("users", problems[0])
        return users

    async def freeze(self, draft: str, version: int, by: str) -> CampaignStatus:
        """Make a campaign of a draft, whose people and text stay as they are; nothing is sent.

        The same version makes one campaign, however often. One that was made of an older version, and was not started, is
        deleted. Rows and pasted words that name no person are skipped.

        Raises:
            DraftNotFound, DraftConflict: as `save`.
            CampaignConflict: one that was made of this draft was started.
            ContractError: the draft is no campaign yet; it names the field that is wrong.
            MalformedRecipients: people who are to be left out can't be found.
        """

        async def freeze(store: CampaignStore) -> CampaignStatus:
            row, plan = await _read(store, draft)
            campaign = campaign_of(draft, version)
            if row["version"] != version:
                raise DraftConflict(draft, row["updated_by"], row["updated_at"])
            with suppress(CampaignNotFound):
                return CampaignStatus.model_validate(await store.get(campaign))
            if (former := row["campaign"]) is not None:
                await removal.replace(store.database, former, campaign)
            check = estimate.check(self._settings, store.database)
            writers = [*row["writers"], by]
            created = await store.create(plan, campaign, writers=writers, check=check)
            async with store.database.write(WRITER) as connection:
                made = update(DraftRow).where(DraftRow.id == draft).values(campaign=campaign)
                await connection.execute(made)
            return created

        return await self._readers.run(freeze)

    def _opened(self) -> AbstractAsyncContextManager[CampaignStore]:
        return opened_store(self._settings, self._database)


def campaign_of(draft: str, version: int) -> str:
    """The id of the campaign that this version of a draft makes."""
    return str(uuid.uuid5(uuid.UUID(draft), str(version)))


async def delete_before(database: Database, moment: datetime) -> None:
    """Delete the drafts that were changed last before a moment."""
    async with database.write(WRITER) as connection:
        await connection.execute(delete(DraftRow).where(DraftRow.updated_at < moment))


async def _count(store: CampaignStore, content: DraftContent, name: str, file: bytes) -> FileCount:
    """Read a file as a whole, before it is kept."""
    if not file.strip():
        raise ContractError("file", en("the file is empty"))
    if name.lower().endswith((".xlsx", ".xls")) and not file.startswith(workbook.BEGINNING):
        raise ContractError("file", en("this is no Excel file (.xlsx): save it as .xlsx or CSV"))
    read_rows, people = 0, set[str]()
    try:
        rows = read(io.BytesIO(file), (), content.column, content.encoding)
        for batch in batches(rows):
            read_rows += len(batch)
            found = await resolved(store.database, content.app, batch)
            people |= {each.userid for each in found if isinstance(each, Recipient)}
    except NoPeopleColumn:
        raise
    except ContractError as error:
        raise ContractError("file", error.problem) from None

    async def everybody() -> AsyncIterator[list[str]]:
        yield list(people)

    absent = await directory.count_absent(store.database, content.app, everybody())
    return FileCount(read_rows, len(people) - (absent or 0), rows.header)


def _columns(content: DraftContent) -> dict[str, Any]:
    document = content.model_dump(mode="json", exclude_defaults=True)
    return {"app": content.app, "name": content.name, "document": document}


def _query() -> Select[Any]:
    """All columns but the file."""
    others = (column for column in DraftRow.__table__.columns if column.name != "file")
    size = func.coalesce(func.length(DraftRow.file), 0).label("file_bytes")
    return select(*others, size)


async def _find(connection: AsyncConnection, draft: str) -> RowMapping:
    found = await connection.execute(_query().where(DraftRow.id == draft))
    row: RowMapping | None = found.mappings().one_or_none()
    if row is None:
        raise DraftNotFound(draft)
    return row


async def _read(store: CampaignStore, draft: str) -> tuple[RowMapping, Plan]:
    """A draft, and what its campaign is to be."""
    async with store.database.read() as connection:
        row = await _find(connection, draft)
        file = await connection.scalar(select(DraftRow.file).where(DraftRow.id == draft))
    content = DraftContent.parse(row["document"])
    plan: dict[str, Any] = {name: getattr(content, name) for name in DraftContent.model_fields}
    plan |= {"recipients": None if file is None else io.BytesIO(file), "malformed": "skip"}
    return row, cast("Plan", plan)


async def _change(
    connection: AsyncConnection, row: RowMapping, version: int, values: dict[str, Any], by: str
) -> CampaignDraft:
    if row["version"] != version:
        raise DraftConflict(row["id"], row["updated_by"], row["updated_at"])
    values |= {"version": version + 1, "updated_by": by, "updated_at": datetime.now(UTC)}
    values["writers"] = list(dict.fromkeys([*row["writers"], by]))
    await connection.execute(update(DraftRow).where(DraftRow.id == row["id"]).values(values))
    return _document(await _find(connection, row["id"]))


def _document(row: RowMapping) -> CampaignDraft:
    return CampaignDraft.model_validate({**row, "content": DraftContent.parse(row["document"])})
