"""The people of a campaign: gathered from files, the directory, or both, each person once."""

import asyncio
import json
import sqlite3
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, BinaryIO, Literal, TypeVar, cast

from sqlalchemy import select

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.campaign_documents import (
    Cause,
    Malformed,
    MalformedRecipients,
    Plan,
    SkippedRow,
    split_causes,
)
from dingrelay_producers.client.personal_data import is_tombstone
from dingrelay_producers.errors import CampaignConflict
from dingrelay_tasks.contract import ContractError, batched
from dingrelay_tasks.sentence import en, from_text, to_text
from dingrelay_workers.campaigns import pasted
from dingrelay_workers.campaigns.chunks import storable
from dingrelay_workers.campaigns.documents import CampaignSpec, FilledTemplate
from dingrelay_workers.campaigns.matching import resolved
from dingrelay_workers.campaigns.models import HIDDEN, CampaignRow, ChunkRow
from dingrelay_workers.campaigns.pasted import Entry
from dingrelay_workers.campaigns.recipients import (
    HEADERS,
    USERID,
    Recipient,
    Rows,
    problem_of,
    read,
)
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.contact_fields import USER_FIELDS
from dingrelay_workers.dingtalk.lenient import text
from dingrelay_workers.directory import audience as directory
from dingrelay_workers.http.api_keys import PERSONAL

CACHE_KIB = 8 * 1024
"""Cache for finding people that are there already. Reading them in order needs little."""
READING_CACHE_KIB = 2 * 1024

_OPEN = f"""
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -{CACHE_KIB};
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    message TEXT NOT NULL
);
CREATE TABLE people (
    position INTEGER PRIMARY KEY,
    userid TEXT NOT NULL UNIQUE,
    result INTEGER
);
CREATE TABLE malformed (
    number INTEGER PRIMARY KEY,
    line INTEGER NOT NULL,
    pasted INTEGER NOT NULL,
    written TEXT NOT NULL,
    problem TEXT NOT NULL,
    users TEXT NOT NULL,
    outcome TEXT NOT NULL
);
BEGIN;
"""
_ADD_RESULT = "INSERT OR IGNORE INTO results (digest, message) VALUES (?, ?)"
_RESULT = "SELECT message FROM results WHERE id = ?"
_ADD = """
INSERT OR IGNORE INTO people (userid, result)
VALUES (?, (SELECT id FROM results WHERE digest = ?))
"""
_ADD_MALFORMED = """
INSERT INTO malformed (line, pasted, written, problem, users, outcome) VALUES (?, ?, ?, ?, ?, ?)
"""
_MALFORMED = """
SELECT number, line, pasted, written, problem, users, outcome FROM malformed ORDER BY number
"""
_REMOVE = "DELETE FROM people WHERE userid = ?"
_READ = "SELECT result, userid FROM people ORDER BY position"
_READ_BY_RESULT = "SELECT result, userid FROM people ORDER BY result, position"


Person = tuple[str, FilledTemplate | None]
"""The userid of one row of a source, and the message that they get; None if all get the same."""
StagedChunk = tuple[list[str], dict[str, Any] | None]
"""People for one call, and the ``msg`` object that they get; None if all get the same."""


class Staging:
    """A database without a name: its file is gone when the process is, however that ends.

    Args:
        varies: people get different messages, and those who get the same belong together.
    """

    def __init__(self, *, varies: bool = False) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_OPEN)
        self._varies = varies

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def add(self, people: Sequence[Person]) -> int:
        """Put people behind those who are there; how many were new."""
        results = {filled.digest: filled for _, filled in people if filled}
        self._write(_ADD_RESULT, ((digest, result.json) for digest, result in results.items()))
        rows = ((userid, result and result.digest) for userid, result in people)
        return self._write(_ADD, rows)

    def remove(self, userids: Iterable[str]) -> int:
        """Take people out; how many were there."""
        return self._write(_REMOVE, ((userid,) for userid in userids))

    def complain(self, row: Malformed) -> None:
        """Keep a row that names no person, as the campaign's table has it."""
        written = storable(row.text)[:LONGEST_WRITTEN]
        problem = to_text(storable(row.problem))
        values = row.line, row.pasted, written, problem, storable(",".join(row.users)), row.outcome
        self._connection.execute(_ADD_MALFORMED, values)

    def malformed(self) -> Iterator[dict[str, Any]]:
        """The rows that name no person, in their order."""
        for number, line, in_text, *texts in self._connection.execute(_MALFORMED):
            written, problem, users, outcome = texts
            row = {"number": number, "line": line, "pasted": bool(in_text), "written": written}
            yield row | {"problem": from_text(problem), "users": users, "outcome": outcome}

    def count(self) -> int:
        """How many people are there."""
        return self._one("SELECT count(*) FROM people")

    def count_chunks(self, size: int) -> int:
        """How many chunks `chunks` hands out."""
        if not self._varies:
            return -(-self.count() // size)
        return self._one(
            "SELECT coalesce(sum((people + ? - 1) / ?), 0)"
            " FROM (SELECT count(*) AS people FROM people GROUP BY result)",
            size,
            size,
        )

    def chunks(self, size: int) -> Iterator[StagedChunk]:
        """Up to `size` people who get the same message, in the order in which these came up."""
        self._connection.execute(f"PRAGMA cache_size = -{READING_CACHE_KIB}")
        rows = self._connection.execute(_READ_BY_RESULT if self._varies else _READ)
        for result, same in groupby(rows, key=itemgetter(0)):
            message = None if result is None else self._message(result)
            while users := [userid for _, userid in islice(same, size)]:
                yield users, message

    def _message(self, result: int) -> dict[str, Any]:
        (message,) = self._connection.execute(_RESULT, (result,)).fetchone()
        document: dict[str, Any] = json.loads(message)
        return document

    def _write(self, statement: str, rows: Iterable[Sequence[Any]]) -> int:
        # All is one transaction: ending one writes pages that change again right away.
        return self._connection.executemany(statement, rows).rowcount

    def _one(self, query: str, *arguments: int) -> int:
        (count,) = self._connection.execute(query, arguments).fetchone()
        return int(count)


BATCH = 2_000
"""Rows read between two checks for cancellation."""
CHUNKS = 500
"""Chunks of a campaign whose people are read at once."""

LONGEST_WRITTEN = 200
"""Characters that are kept of a malformed row."""
LISTED = 20
"""Malformed rows that are listed in full."""

DIRECTORY_FIELDS = frozenset(name for name, parser in USER_FIELDS.items() if parser is text)
"""Fields that the directory may have of a person and that are text."""

_FIELD_OF = {other: name for name, synonyms in HEADERS.items() for other in synonyms} | {
    "职位": "title"
}
"""Chinese names of fields, as `{姓名}` has one, and the directory's."""

Source = BinaryIO | Iterable[object]
Row = TypeVar("Row")


class CreationProgress:
    """Follows how a campaign is made, which takes minutes for a large one."""

    def malformed(self, row: Malformed) -> None:
        """A row names no person, or lacks a field."""

    def read(self, rows: int) -> None:
        """So many rows were looked at by now."""

    def written(self, people: int, total: int) -> None:
        """So many more people of the total are written."""


UNWATCHED = CreationProgress()


class Gathered:
    """The people of a plan.

    Args:
        database: the directory's.
        spec: whose app has the directory, and whose message each recipient is checked for.
        plan: names the people.
        progress: follows the reading.
        staging: holds them.

    Attributes:
        rows: how many rows and members were looked at.
        file_rows: those of the file.
        duplicates: rows of a recipient already read; the first one counts.
        excluded: people who were taken out.
        causes: of rows that are skipped, and how many there are of each.
        first_malformed: some of them.
    """

    def __init__(
        self,
        database: Database,
        spec: CampaignSpec,
        plan: Plan,
        progress: CreationProgress,
        staging: Staging,
    ) -> None:
        self._database = database
        self._app = spec.app
        self._template = spec.template
        self._plan = cast("Mapping[str, Any]", plan)
        self._directory_fields = (
            DIRECTORY_FIELDS if current_actor().reads_directory else frozenset[str]()
        )
        self._progress = progress
        self.staging = staging
        self.rows = self.file_rows = 0
        self.duplicates = 0
        self.excluded = 0
        self.causes = Counter[Cause]()
        self.first_malformed: list[Malformed] = []

    @property
    def recipients(self) -> int:
        """How many people are left."""
        return self.staging.count()

    @property
    def malformed(self) -> int:
        """How many rows are skipped since they name no person, can't be read, or lack a value."""
        return split_causes(self.causes)[0]

    @property
    def unmatched(self) -> int:
        """How many rows are skipped since they do not match one person."""
        return split_causes(self.causes)[1]

    @property
    def skipped(self) -> list[SkippedRow]:
        """Some of the malformed rows, as documents show them."""
        return [SkippedRow.of(row) for row in self.first_malformed]

    async def add(self) -> None:
        """Put all recipients into the staging table."""
        for what in ("users", "without_users"):
            _check_userids(what, self._plan.get(what, ()))
        fields = self._template.fields
        rows = self._read("recipients", fields, self._plan.get("column", ""))
        pasted_rows = pasted.rows(self._plan.get("pasted", ""), fields)
        tables = [table for table in (rows, pasted_rows) if isinstance(table, Rows)]
        self._refuse_unknown_fields(tables)
        async for people, in_text in self._people("", rows or (), pasted_rows):
            await self._stage(people, pasted=in_text)

    async def exclude(self) -> None:
        """Take everybody out who is excluded.

        Raises:
            MalformedRecipients: who can't be read there would be sent to.
            ContractError: a file of them can't be read as a whole.
        """
        causes, first = Counter[Cause](), list[Malformed]()
        try:
            rows = self._read("without")
            pasted_rows = pasted.rows(self._plan.get("without_pasted", ""))
            async for people, in_text in self._people("without_", rows or (), pasted_rows):
                nobodys = [person for person in people if isinstance(person, Malformed)]
                first += [
                    malformed._replace(pasted=in_text)
                    for malformed in nobodys[: LISTED - len(first)]
                ]
                causes.update(malformed.cause for malformed in nobodys)
                self.excluded += self.staging.remove(row.userid for row in _sound(people))
        except ContractError as error:
            if not error.field.startswith("line "):
                raise
            raise ContractError("exclusions", str(error)) from None
        if causes:
            what = "without_pasted" if first[0].pasted else "exclusions"
            raise MalformedRecipients(what, causes, first)

    def _read(
        self, what: Literal["recipients", "without"], fields: Sequence[str] = (), column: str = ""
    ) -> Rows | None:
        """The rows of a file or an iterable that names people; None if there is none."""
        source = cast("Source | None", self._plan.get(what))
        encoding = self._plan.get("encoding", "")
        return None if source is None else read(source, fields, column, encoding)

    async def _people(
        self,
        which: Literal["", "without_"],
        rows: Iterable[Recipient | Malformed],
        pasted_rows: Iterable[Entry | Recipient | Malformed],
    ) -> AsyncIterator[tuple[Sequence[Recipient | Malformed], bool]]:
        """People that the plan names, or leaves out; and whether a pasted text names them."""
        database, app = self._database, self._app
        for batch in batches(rows):
            await asyncio.sleep(0)  # lets a pending cancellation through
            self.file_rows += 0 if which else len(batch)
            yield await resolved(database, app, batch), False
        for named in batches(pasted_rows):
            yield await pasted.resolve(database, app, named), True
        async for userids in self._userids(which):
            yield [Recipient(0, userid) for userid in userids], False

    async def _userids(self, which: Literal["", "without_"]) -> AsyncIterator[Sequence[str]]:
        database, app = self._database, self._app
        yield self._plan.get(f"{which}users", ())
        for department in self._plan.get(f"{which}departments", ()):
            if not await directory.is_known(database, app, department):
                problem = en("{} is not in the directory of the app {}", department, app)
                raise ContractError(f"{which}departments", problem)
            async for userids in directory.below(database, app, department):
                yield userids
        if self._plan.get(f"{which}everyone", False):
            async for userids in directory.everyone(database, app):
                yield userids
        for at, campaign in enumerate(self._plan.get(f"{which}campaigns", ())):
            if not await _chunks_of(database, campaign):
                problem = en(
                    "no campaign {}, or it is a draft, whose people are not known", campaign
                )
                raise ContractError(f"{which}campaigns.{at}", problem)
            async for userids in people_of(database, campaign):
                yield userids

    async def _stage(self, rows: Sequence[Recipient | Malformed], *, pasted: bool = False) -> None:
        people: list[Person] = []
        fields = await self._from_directory(rows)
        for row in rows:
            person = row if isinstance(row, Malformed) else self._person(row, fields)
            if isinstance(person, Malformed):
                self._complain(person._replace(pasted=pasted))
            else:
                people.append(person)
        self.duplicates += len(people) - self.staging.add(people)
        self.rows += len(rows)
        self._progress.read(self.rows)

    def _person(
        self, row: Recipient, fields_by_user: Mapping[str, Mapping[str, Any]]
    ) -> Person | Malformed:
        """The recipient with what they get; or what is missing for it."""
        # The directory stores userids as DingTalk returns them. One that no call can carry would
        # fail the whole call.
        if problem := problem_of(row.userid):
            return row.malformed(en("{!a}: {}", row.userid, problem), "malformed")
        if not self._template.fields:
            return row.userid, None
        values: list[str] = []
        known = fields_by_user.get(row.userid)
        words = row.words
        if words == row.userid and known:
            words = str(known.get("name") or words)
        for name in self._template.fields:
            value = row.userid if name == USERID else row.fields.get(name)
            if value is None:
                field = _FIELD_OF.get(name, name)
                value = (known or {}).get(field) if field in self._directory_fields else None
                if known is None and self._directory_fields:
                    problem = en("{} is not in the directory: no value for {{{}}}", words, name)
                    return row.malformed(problem, "unknown")
            if not isinstance(value, str) or not value.strip():
                return row.malformed(en("{} has no value for {{{}}}", words, name), "value")
            values.append(value)
        try:
            result = self._template.fill(tuple(values))
        except ContractError as error:
            return row.malformed(en("{}: {}", words, error), "value")
        return row.userid, result

    async def _from_directory(
        self, rows: Sequence[Recipient | Malformed]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Fields of the directory of those whose rows lack some."""
        lacking = {
            name
            for name in self._template.fields
            if _FIELD_OF.get(name, name) in self._directory_fields
        }
        userids = [row.userid for row in _sound(rows) if not lacking <= row.fields.keys()]
        return await directory.fields(self._database, self._app, userids) if userids else {}

    def _complain(self, malformed: Malformed) -> None:
        self.causes[malformed.cause] += 1
        self.staging.complain(malformed)
        if len(self.first_malformed) < LISTED:
            self.first_malformed.append(malformed)
        self._progress.malformed(malformed)

    def _refuse_unknown_fields(self, tables: Sequence[Rows]) -> None:
        """Reject a field that no recipient can have.

        Raises:
            ContractError: names it.
        """
        columns = frozenset[str]()
        for table in tables:
            if table.columns is None:
                return  # any object may have any field
            columns |= table.columns
        for name in self._template.fields:
            field = _FIELD_OF.get(name, name)
            if name in columns | {USERID} or field in self._directory_fields:
                continue
            if field in DIRECTORY_FIELDS:
                problem = en(
                    "{{{}}} is a field of the directory, which needs the scope {}", name, PERSONAL
                )
                raise ContractError("message", problem)
            places = en("the directory (name, job_number, title, mobile, email, …)")
            if tables:
                names = {name for table in tables for name in table.header if name}
                places = en("the file ({}) or {}", ", ".join(sorted(names)), places)
            raise ContractError("message", en("{{{}}} is no field of {}", name, places))


@asynccontextmanager
async def gather(
    database: Database, spec: CampaignSpec, plan: Plan, progress: CreationProgress = UNWATCHED
) -> AsyncGenerator[Gathered, None]:
    """The people of a plan, while the block runs. Reading a file holds up the event loop.

    Args:
        database: the directory's.
        spec: `plan`, checked.
        plan: names the people.
        progress: follows the reading.

    Raises:
        MalformedRecipients: there are malformed rows, and they are refused.
        ContractError: the plan or a file as a whole is invalid, or no recipient is left.
    """
    with closing(Staging(varies=bool(spec.template.fields))) as staging:
        gathered = Gathered(database, spec, plan, progress, staging)
        await gathered.add()
        if gathered.causes and plan.get("malformed", "refuse") == "refuse":
            raise MalformedRecipients("recipients", gathered.causes, gathered.first_malformed)
        await gathered.exclude()
        if not gathered.recipients:
            raise ContractError("recipients", "no recipient is left")
        yield gathered


async def _chunks_of(database: Database, campaign: str) -> int:
    """How many chunks a campaign has; 0 of a draft, and where there is no such campaign."""
    query = select(CampaignRow.chunks).where(
        CampaignRow.id == campaign, CampaignRow.state.not_in(HIDDEN)
    )
    async with database.read() as connection:
        return await connection.scalar(query) or 0


async def people_of(database: Database, campaign: str) -> AsyncIterator[list[str]]:
    """The userids of a campaign, in pages, without those of erased people; no transaction stays open between pages.

    Raises:
        CampaignConflict: it was changed or deleted since the first page, so some are missing.
    """
    missing = await _chunks_of(database, campaign)
    query = select(ChunkRow.number, ChunkRow.users).where(ChunkRow.of(campaign))
    async for rows in database.pages(query, ChunkRow.number, CHUNKS):
        missing -= len(rows)
        yield [user for row in rows for user in row.users.split(",") if not is_tombstone(user)]
    if missing > 0:
        raise CampaignConflict(campaign, "was changed since it was read: look at it again")


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """So many at once as are looked up together."""
    return batched(rows, BATCH)


def _sound(rows: Iterable[Recipient | Malformed]) -> Iterator[Recipient]:
    return (row for row in rows if isinstance(row, Recipient))


def _check_userids(what: str, userids: Sequence[str]) -> None:
    for at, userid in enumerate(userids):
        if problem := problem_of(userid):
            raise ContractError(f"{what}.{at}", problem)
