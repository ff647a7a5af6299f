"""Files that the command writes of the outcomes of a campaign's people: a table for people, JSON lines for programs."""

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile

from dingrelay_producers.cli.output import output_file
from dingrelay_producers.spreadsheet import SPREADSHEET, csv_line, harmless
from dingrelay_workers.campaigns.report import Result
from dingrelay_workers.campaigns.result_table import people_header, person_row

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
    from openpyxl import Workbook
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

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


@contextmanager
def people_lines(name: str) -> Generator[Write]:
    """Writes the outcomes of people into a file, one JSON object a line."""
    with output_file(name, "--json-file") as add:
        yield lambda page: add(
            json.dumps(result._asdict(), ensure_ascii=False) + "\n" for result in page
        )
