"""The outcomes of a campaign's people as files: tables for people, one JSON object a line for programs."""

import json
from collections.abc import (
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from tempfile import TemporaryFile

from dingrelay_producers.cli.output import output_file
from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_producers.language import CHINESE, current_language, tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET, csv_line, harmless
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.audience import batches, resolved
from dingrelay_workers.campaigns.recipients import HEADERS, USERID, Recipient, Rows
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.store import CampaignStore

WORKBOOK = ".xlsx"
Write = Callable[[Sequence[Result]], None]
Add = Callable[[Iterable[Sequence[object]]], None]


@contextmanager
def table(name: str) -> Generator[Add]:
    """Writes rows into a CSV file, or into an Excel file if the name ends so; Excel keeps a number's zeros there alone."""
    if name.lower().endswith(WORKBOOK):
        with _workbook(name) as add:
            yield add
    else:
        with output_file(name, "--csv", SPREADSHEET) as write:
            yield lambda rows: write(map(csv_line, rows))


@contextmanager
def _workbook(name: str) -> Generator[Add]:
    from openpyxl import Workbook  # noqa: PLC0415 - most commands don't need it
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE  # noqa: PLC0415

    book = Workbook(write_only=True)
    sheet = book.create_sheet()

    def cell(value: object) -> str:
        text = "" if value is None else str(harmless(str(value)))
        return str(ILLEGAL_CHARACTERS_RE.sub("", text))

    def add(rows: Iterable[Sequence[object]]) -> None:
        for row in rows:
            sheet.append([cell(value) for value in row])

    with output_file(name, "--csv", None) as write, TemporaryFile() as whole:
        yield add
        book.save(whole)
        whole.seek(0)
        write(whole)


@contextmanager
def people_table(name: str) -> Generator[Write]:
    """Writes the outcomes of people into a table."""
    with table(name) as add:
        add([people_header()])
        yield lambda page: add(map(person_row, page))


async def people_csv(pages: AsyncIterator[Sequence[Result]]) -> AsyncIterator[bytes]:
    """The same for a door that hands it out page by page."""
    yield csv_line(people_header()).encode(SPREADSHEET)
    async for page in pages:
        yield "".join(csv_line(person_row(person)) for person in page).encode()


def people_header() -> Sequence[str]:
    """The first row of a table of people."""
    # Under these `--file` of another campaign finds the people.
    people: tuple[str, ...] = ("name", "job_number", "mobile", "departments")
    if current_language() == CHINESE:
        people = (*(HEADERS[name][0] for name in people[:-1]), "部门")
    return USERID, *people, *_titles()


def person_row(row: Result) -> Sequence[object]:
    """The row of a person."""
    return row.userid, row.name, row.job_number, row.mobile, row.departments, *_outcome(row)


def _titles() -> tuple[str, ...]:
    return tr("result"), tr("reason"), tr("outcome"), tr("task_id")


def _outcome(row: Result) -> tuple[object, ...]:
    return (
        translated(OUTCOMES[row.outcome].result),
        translated(row.reason),
        row.outcome,
        row.task_id,
    )


@contextmanager
def people_lines(name: str) -> Generator[Write]:
    """Writes the outcomes of people into a file, one JSON object a line."""
    with output_file(name, "--json-file") as add:
        yield lambda page: add(
            json.dumps(result._asdict(), ensure_ascii=False) + "\n" for result in page
        )


async def beside(
    store: CampaignStore, campaign: str, rows: Rows
) -> AsyncIterator[Iterable[Sequence[object]]]:
    """The rows of the file that named a campaign's people, each with what became of the person; first the header.

    The outcomes of all people are held in memory. People named by an address are those who have it now.

    Raises:
        CampaignNotFound: there is none with this id.
        ContractError: the file has no header, or can't be read.
    """
    if not rows.header:
        raise ContractError("input", "must be a table with a header")
    app = (await store.get(campaign)).app
    results = Report(store.database).results(campaign)
    outcomes = {result.userid: _outcome(result) async for page in results for result in page}
    yield [(*rows.header, *_titles())]
    for batch in batches((row, rows.values) for row in rows):
        people = await resolved(store.database, app, [row for row, _ in batch])
        yield [
            (*values, *[""] * (len(rows.header) - len(values)), *_outcome_of(person, outcomes))
            for person, (_, values) in zip(people, batch, strict=True)
        ]


def _outcome_of(
    person: Recipient | Malformed, known: Mapping[str, tuple[object, ...]]
) -> tuple[object, ...]:
    if isinstance(person, Malformed):
        return tr("left out"), translated(str(person)), "malformed", None
    return known.get(person.userid) or (tr("not in the campaign"), "", "", None)
