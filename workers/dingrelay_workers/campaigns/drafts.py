"""Content of a campaign before it is sent: its text, its people and its rules.

It is saved with the version that its editor has read. An older version overwrites nothing, and the editor learns
who was faster. `Drafts.freeze` makes it ready: its people become rows. A change makes it a draft again, and voids its
approval.
"""

import io
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime, timedelta
from itertools import chain, count, islice
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlalchemy import and_, select

from dingrelay_producers.actor import current_reach
from dingrelay_producers.client.campaign_documents import (
    LONGEST_NAME,
    WITH_PEOPLE,
    CampaignStatus,
    Cause,
    CopyRequest,
    Malformed,
    SkippedRow,
)
from dingrelay_producers.client.history_documents import KnownPerson
from dingrelay_producers.client.verbs import verb
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound, DraftConflict
from dingrelay_producers.language import tr
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_tasks.contract import ContractError, UserIdText
from dingrelay_tasks.sentence import en, writable
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns import estimate, pasted, removal, review, sources, workbook
from dingrelay_workers.campaigns.audience import LISTED, batches
from dingrelay_workers.campaigns.documents import (
    DraftChange,
    DraftContent,
    DraftVersion,
    check_start_at,
)
from dingrelay_workers.campaigns.matching import resolved
from dingrelay_workers.campaigns.models import LANE, CampaignRow, State
from dingrelay_workers.campaigns.opening import FileReaders
from dingrelay_workers.campaigns.people import author, with_issuers
from dingrelay_workers.campaigns.reach import (
    WRITE,
    check_left_out,
    find_permitted,
    id_for_request,
    permitted_sender,
)
from dingrelay_workers.campaigns.recipients import NoPeopleColumn, Recipient, read
from dingrelay_workers.campaigns.sources import LARGEST_FILE, Written
from dingrelay_workers.campaigns.store import (
    UNCHECKED,
    CampaignStore,
    columns_of,
    empty_row,
    find,
    insert_new,
)
from dingrelay_workers.database.database import Database, change_rows
from dingrelay_workers.database.schema import opened
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.directory.models import UserRow
from dingrelay_workers.directory.service import alike, find_people
from dingrelay_workers.maintenance.clean_up import CleanUp

_COPY = re.compile(r" \(copy(?: \d+)?\)$|（副本(?: \d+)?）$")
"""Mark of a copy, in either language."""
KEPT = timedelta(days=180)
"""After which a draft without a change is deleted, and what an ended campaign was made of: both name people."""
MOST_HELPED, MOST_CANDIDATES = 5, 5
"""Entries with a problem for which people are looked for, and people of each."""
MOST_PARSED = 500
"""Pasted names that are looked up at once; the check of a draft looks up all."""


class CampaignDraft(BaseModel):
    """Content of a campaign, as it is written."""

    id: str
    stage: CampaignStage
    """Whether it is a `draft`, or `ready`: then a change makes it a draft again, and voids its approval."""
    version: int
    """One more with each change; a change names the version that it was made from."""
    content: DraftContent
    file_name: str
    """Name of the list of people; empty for none."""
    file_bytes: int
    created_by: UserIdText
    updated_by: UserIdText
    updated_at: datetime

    @classmethod
    def of(cls, row: CampaignRow, written: Written) -> "CampaignDraft":
        """The content of the campaign of a row."""
        return cls(
            id=row.id,
            stage=row.stage,
            version=row.version,
            content=written.content,
            file_name=written.file_name,
            file_bytes=written.file_bytes,
            created_by=row.created_by,
            updated_by=row.updated_by,
            updated_at=row.updated_at or row.created_at,
        )


class PastedPerson(BaseModel):
    """A person that a pasted text names."""

    line: int
    """Line of the text, from 1."""
    userid: UserIdText
    name: str
    """Name in the directory; empty if it has none."""


class PastedProblem(SkippedRow, frozen=True):
    """An entry that names no person, or several."""

    text: str
    """The entry, or what stands where a row should name a person."""
    candidates: list[KnownPerson]
    """People that the entry may mean, of the first entries with a problem in a list: five at most."""


class PastedPeople(BaseModel):
    """The people that a pasted text names, and what names none or several."""

    people: list[PastedPerson]
    """Ordered as in the text, each once."""
    problems: list[PastedProblem]
    complete: bool
    """Whether all was looked up, and not the first 500 entries only."""


class FileCount(NamedTuple):
    """The result of reading a file with people.

    Attributes:
        people: that its rows name, without those the directory lacks.
        causes: of rows that are skipped, counted.
        skipped: the first of these.
    """

    rows: int = 0
    people: int = 0
    columns: Sequence[str] = ()
    causes: Mapping[Cause, int] = MappingProxyType({})
    skipped: Sequence[SkippedRow] = ()


class Drafts:
    """Contents of campaigns, for the actor of the present task; one that is not theirs is not there.

    Args:
        settings: of this process.
        database: as of `CampaignService`.
    """

    NOUN = "campaign"

    def __init__(self, settings: Settings, database: Database | None = None) -> None:
        self._settings = settings
        self._database = database
        self._readers = FileReaders(settings, database)

    @verb("POST /v1/campaigns/drafts", scope=WRITE, operation="createDraft")
    async def write(self, content: DraftContent) -> CampaignDraft:
        """Begin a campaign as a draft, which may be half-filled."""
        check_start_at(content.start_at)
        sender = permitted_sender(self._settings, content.app, content.sender)
        written = Written(content.model_copy(update={"sender": sender}))
        return await self._insert(self.write, written, content.without_campaigns)

    @verb("POST /v1/campaigns/{id}/copy", scope=WRITE, creates=True)
    async def copy(self, campaign: str, request: CopyRequest = WITH_PEOPLE) -> CampaignDraft:
        """Make a draft with the text, the rules and the people of a campaign, whatever became of that.

        Its time is left out; without `people` also which people get it.
        """
        async with self._opened() as database:
            row, written = await self._read(database, campaign, file=request.people)
            if request.people:
                written = await sources.with_people(database, row, written)
            else:
                written = written.without_people
            name = await self._name_of_copy(database, written.content)
        content = written.content.model_copy(update={"start_at": None, "name": name})
        return await self._insert(self.copy, written._replace(content=content))

    async def _name_of_copy(self, database: Database, content: DraftContent) -> str:
        """The name of what is copied, marked as that of a copy, with a number where there is one already."""
        original = _COPY.sub("", content.name)
        begins = CampaignRow.name.startswith(original, autoescape=True)
        query = select(CampaignRow.name).where(CampaignRow.app == content.app, begins)
        async with database.read() as connection:
            names = set(await connection.scalars(query))
        numbered = (tr("{name} (copy {number})", name="", number=number) for number in count(2))
        marks = chain([tr("{name} (copy)", name="")], numbered)
        copies = (original[: LONGEST_NAME - len(mark)] + mark for mark in marks)
        return next(copy for copy in copies if copy not in names)

    async def get(self, campaign: str, scope: str = WRITE) -> CampaignDraft:
        """Content of the campaign with this id, of which the actor may do what has this scope.

        Raises:
            CampaignNotFound: there is none, or it is not theirs.
        """
        async with self._opened() as database:
            return CampaignDraft.of(*await self._read(database, campaign, scope, file=False))

    @verb("PATCH /v1/campaigns/{id}", scope=WRITE, operation="saveDraft")
    async def save(self, campaign: str, request: DraftChange) -> CampaignDraft:
        """Change the content of a campaign that was not started.

        One that is ready becomes a draft again, and its approval is void. Refused where another change was saved since
        `version` (409): read it again.
        """
        changes = request.changes
        async with self._opened() as database:
            row, written = await self._read(database, campaign)
            content = DraftContent.parse({**written.content.model_dump(), **changes})
            if content.start_at != written.content.start_at:
                check_start_at(content.start_at)
            if changes.keys() & {"app", "sender"}:
                sender = permitted_sender(self._settings, content.app, content.sender)
                content = content.model_copy(update={"sender": sender})
            async with database.read() as connection:
                await check_left_out(connection, changes.get("without_campaigns", ()))
            if content == written.content:
                return CampaignDraft.of(row, written)
            written = await sources.with_people(database, row, written)
            written = written._replace(content=content)
            return await self._change(self.save, database, row, request.version, written)

    @verb(scope=WRITE)
    async def attach(
        self, campaign: str, version: int, name: str, file: bytes | None
    ) -> tuple[CampaignDraft, FileCount]:
        """Give a draft a list of people: CSV, an Excel file or lines of JSON; None takes it away.

        Raises:
            ContractError: it is too large, empty or no table, or does not say which column names people.
        """
        if len(file or b"") > LARGEST_FILE:
            raise ContractError("file", en("may have {:,} bytes", LARGEST_FILE))
        file_name, counted = "", FileCount()
        if file is not None:
            file_name = writable(name).replace("\0", "")[:255]
            content = (await self.get(campaign)).content
            counted = await self._readers.run(
                lambda database: _count(database, content, name, file)
            )
        async with self._opened() as database:
            row, written = await self._read(database, campaign)
            written = written._replace(file=file, file_name=file_name)
            return await self._change(self.attach, database, row, version, written), counted

    @verb("POST /v1/campaigns/{id}/freeze", scope=WRITE, operation="freezeDraft")
    async def freeze(self, campaign: str, request: DraftVersion) -> CampaignStatus:
        """Make a draft ready: it is checked, and its people and text stay as they are.

        Nothing is sent before it is started. Once more changes nothing. Rows and words that name no person are skipped.
        """

        async def freeze(database: Database) -> CampaignStatus:
            row, written = await self._read(database, campaign)
            _check_version(row, request.version)
            if row.stage == CampaignStage.READY:
                return CampaignStatus.model_validate(row)
            check_start_at(written.content.start_at)
            check = estimate.check(self._settings, database)
            by, body = author(self._settings), self.freeze
            return await CampaignStore(database).freeze(
                row, written.plan, by, check=check, body=body
            )

        return await self._readers.run(freeze)

    async def parse_pasted(self, app: str, text: str) -> PastedPeople:
        """The people that a pasted text names, and what names none or several.

        Raises:
            NotPermitted: the app's directory is not the actor's.
        """
        current_reach().check("directory:read", app=app)
        named = list(islice(pasted.rows(text), MOST_PARSED + 1))
        async with self._opened() as database:
            rows = await pasted.resolve(database, app, named[:MOST_PARSED])
            users: dict[str, Recipient] = {}
            for row in rows:
                if isinstance(row, Recipient):
                    users.setdefault(row.userid, row)
            fields = await directory.fields(database, app, users)
            problems = [row for row in rows if isinstance(row, Malformed)]
            helped = [] if named and not isinstance(named[0], pasted.Entry) else problems
            candidates = await _candidates(database, app, helped[:MOST_HELPED])
        return PastedPeople(
            people=[
                PastedPerson(
                    line=user.line,
                    userid=user.userid,
                    name=str(fields.get(user.userid, {}).get("name") or ""),
                )
                for user in users.values()
            ],
            problems=[
                PastedProblem(
                    **SkippedRow.of(row).model_dump(),
                    text=writable(row.text),
                    candidates=candidates.get(row, []),
                )
                for row in problems
            ],
            complete=len(named) <= MOST_PARSED,
        )

    async def testers(self, draft: CampaignDraft, text: str) -> Sequence[str]:
        """The userids of the people of a pasted text, who get a test.

        Raises:
            ContractError: one is not in the directory, or a name is that of several.
        """
        app = draft.content.app
        pasted_people = await self.parse_pasted(app, text)
        users = [person.userid for person in pasted_people.people]
        async with self._opened() as database:
            absent = await directory.left_users(database, app, users)
        problems = [row.problem for row in pasted_people.problems]
        problems += [en("{} is no person in the directory", user) for user in absent]
        if problems:
            raise ContractError("users", problems[0])
        return users

    async def count_file(self, campaign: str) -> FileCount:
        """Read the file of a draft again.

        Raises:
            ContractError: its column is not there any more.
        """

        async def count(database: Database) -> FileCount:
            _, written = await self._read(database, campaign)
            return await _count(database, written.content, written.file_name, written.file or b"")

        return await self._readers.run(count)

    async def _read(
        self, database: Database, campaign: str, scope: str = WRITE, *, file: bool = True
    ) -> tuple[CampaignRow, Written]:
        async with database.read() as connection:
            await find_permitted(connection, campaign, scope)
        return await sources.read(database, campaign, file=file)

    async def _insert(
        self, body: Callable[..., Any], written: Written, left_out: Sequence[str] = ()
    ) -> CampaignDraft:
        """Store a new draft without the people of campaigns; one only for a request that is repeated.

        Raises:
            CampaignConflict: it was deleted since.
        """
        earlier = id_for_request()
        campaign = earlier or str(uuid.uuid4())
        row = empty_row(campaign, written, author(self._settings))
        app, after = written.content.app, {"name": written.content.name}
        async with self._opened() as database:
            if earlier:
                with suppress(CampaignNotFound):
                    return CampaignDraft.of(*await self._read(database, earlier, file=False))
            async with database.write(f"campaign {campaign}") as connection:
                await check_left_out(connection, left_out)
                await insert_new(connection, row)
                await audit.record_verb(connection, body, campaign, app=app, lane=LANE, after=after)
            return CampaignDraft.of(*await sources.read(database, campaign, file=False))

    async def _change(
        self,
        body: Callable[..., Any],
        database: Database,
        row: CampaignRow,
        version: int,
        written: Written,
    ) -> CampaignDraft:
        """Write another version of a campaign as it was read, which is a draft then; what changes nothing makes none."""
        _check_version(row, version)
        by = author(self._settings)
        values = {
            **UNCHECKED,
            **columns_of(written.content),
            "file": written.file,
            "file_name": written.file_name,
            "version": version + 1,
            "writers": list(dict.fromkeys([*(row.writers or ()), by])),
            "issuers": with_issuers(row.issuers),
            "updated_by": by,
            "updated_at": clock.now(),
        }
        async with database.write(f"campaign {row.id}") as connection:
            draft = CampaignRow.id == row.id, CampaignRow.state == State.DRAFT
            same = CampaignRow.version == version
            if not await change_rows(connection, CampaignRow, *draft, same, **values):
                _check_version(await find(connection, row.id), version)
            await review.void(connection, row.id)
            if row.stage == CampaignStage.READY:
                states = {"before": {"state": row.stage}, "after": {"state": CampaignStage.DRAFT}}
                await audit.record_verb(connection, body, row.id, app=row.app, lane=LANE, **states)
        return CampaignDraft.of(*await sources.read(database, row.id, file=False))

    def _opened(self) -> AbstractAsyncContextManager[Database]:
        return opened(self._settings, self._database)


async def clean_up(work: CleanUp) -> None:
    """Delete old drafts, and what old campaigns were made of."""
    await delete_before(work.database, work.now() - KEPT)


async def delete_before(database: Database, moment: datetime) -> None:
    """Delete the drafts that were changed last before a moment, and forget what ended campaigns were made of.

    The leader of campaigns deletes the rows of the drafts.
    """
    old = CampaignRow.updated_at < moment
    drafts = CampaignRow.state == State.DRAFT, CampaignRow.chunks == 0
    ended = CampaignRow.state.in_([State.DONE, State.CANCELLED]), CampaignRow.content.is_not(None)
    async with database.write("campaign drafts") as connection:
        await change_rows(connection, CampaignRow, old, *drafts, state=State.DELETING)
        await change_rows(connection, CampaignRow, old, *ended, **removal.FORGOTTEN)


async def _candidates(
    database: Database, app: str, problems: Sequence[Malformed]
) -> dict[Malformed, list[KnownPerson]]:
    """People that entries may mean, by entry."""
    async with database.read() as connection:
        return {
            row: await find_people(
                connection,
                and_(
                    UserRow.left_at.is_(None),
                    UserRow.userid.in_(row.candidates) if row.candidates else alike(row.text),
                ),
                app=app,
                limit=MOST_CANDIDATES,
            )
            for row in problems
            if row.text
        }


async def _count(database: Database, content: DraftContent, name: str, file: bytes) -> FileCount:
    """Read a file as a whole, before it is kept."""
    if not file.strip():
        raise ContractError("file", en("the file is empty"))
    if name.lower().endswith((".xlsx", ".xls")) and not file.startswith(workbook.BEGINNING):
        raise ContractError("file", en("this is no Excel file (.xlsx): save it as .xlsx or CSV"))
    read_rows, people = 0, set[str]()
    causes, skipped = Counter[Cause](), list[SkippedRow]()
    try:
        rows = read(io.BytesIO(file), (), content.column, content.encoding)
        for batch in batches(rows):
            read_rows += len(batch)
            resolved_rows = await resolved(database, content.app, batch)
            people |= {row.userid for row in resolved_rows if isinstance(row, Recipient)}
            malformed = [row for row in resolved_rows if isinstance(row, Malformed)]
            causes.update(row.cause for row in malformed)
            skipped += map(SkippedRow.of, malformed[: LISTED - len(skipped)])
    except NoPeopleColumn:
        raise
    except ContractError as error:
        raise ContractError("file", error.problem) from None

    async def everybody() -> AsyncIterator[list[str]]:
        yield list(people)

    absent = await directory.count_absent(database, content.app, everybody())
    found = len(people) - (absent or 0)
    return FileCount(read_rows, found, rows.header, causes, skipped)


def _check_version(row: CampaignRow, version: int) -> None:
    """Refuse a change of a campaign that was started, or of an older version.

    Raises:
        CampaignConflict: it was started, or has ended.
        DraftConflict: another change was saved since.
    """
    if row.state != State.DRAFT:
        raise CampaignConflict(row.id, en("is {}: copy it, and change the copy", row.stage))
    if row.version != version:
        raise DraftConflict(row.id, row.updated_by, row.updated_at or row.created_at)
