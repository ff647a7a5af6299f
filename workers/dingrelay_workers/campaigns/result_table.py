"""The outcomes of a campaign's people as files: tables for people, one JSON object a line for programs."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from dingrelay_producers.client.campaign_documents import Malformed
from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_producers.language import CHINESE, current_language, tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET, csv_line
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.campaigns.audience import batches
from dingrelay_workers.campaigns.matching import resolved
from dingrelay_workers.campaigns.recipients import HEADERS, USERID, Recipient, Rows
from dingrelay_workers.campaigns.report import Report, Result
from dingrelay_workers.campaigns.store import find
from dingrelay_workers.database.database import Database


async def people_csv(pages: AsyncIterator[Sequence[Result]]) -> AsyncIterator[bytes]:
    """The table of people as CSV, page by page."""
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


async def beside(
    database: Database, campaign: str, rows: Rows
) -> AsyncIterator[Iterable[Sequence[object]]]:
    """The rows of the file that named a campaign's people, each with what became of the person; first the header.

    The outcomes of all people are held in memory. People named by an address are those who have it now.

    Raises:
        CampaignNotFound: there is none with this id.
        ContractError: the file has no header, or can't be read.
    """
    if not rows.header:
        raise ContractError("input", "must be a table with a header")
    async with database.read() as connection:
        app = (await find(connection, campaign)).app
    results = Report(database).results(campaign)
    outcomes = {result.userid: _outcome(result) async for page in results for result in page}
    yield [(*rows.header, *_titles())]
    for batch in batches((row, rows.values) for row in rows):
        people = await resolved(database, app, [row for row, _ in batch])
        yield [
            (*values, *[""] * (len(rows.header) - len(values)), *_outcome_of(person, outcomes))
            for person, (_, values) in zip(people, batch, strict=True)
        ]


def _outcome_of(
    person: Recipient | Malformed, known: Mapping[str, tuple[object, ...]]
) -> tuple[object, ...]:
    if isinstance(person, Malformed):
        return tr("left out"), translated(str(person)), person.outcome, None
    return known.get(person.userid) or (tr("not in the campaign"), "", "", None)
