"""CSV for people, as Excel reads it."""

import csv
import io
from collections.abc import Iterable

SPREADSHEET = "utf-8-sig"
"""The encoding of a CSV for people: Excel takes a file without a mark for that of the system."""
FORMULA = tuple("=+-@＝＋－＠\t\r")
"""Characters at the start of a value that spreadsheets execute; a Chinese or Japanese one takes those of full width for the others."""


def csv_line(values: Iterable[object]) -> str:
    """A line of a file."""
    line = io.StringIO()
    csv.writer(line).writerow(map(harmless, values))
    return line.getvalue()


def harmless(value: object) -> object:
    """A value that no spreadsheet takes for a formula; files of recipients are read as it was."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
