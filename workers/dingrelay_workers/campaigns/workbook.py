"""The rows of an Excel file (.xlsx), read as a stream.

Beside a row, the memory holds the file's table of texts, in which each text that differs is once: an Excel
file has up to a million rows.
"""

import re
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time
from itertools import repeat
from typing import Any, BinaryIO
from zipfile import ZipFile, ZipInfo

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en

BEGINNING = b"PK\x03\x04"
"""A ZIP archive."""
MOST_ROWS = 1 << 20
"""Excel's limit."""
LARGEST_PART = 256 << 20
"""Bytes of what the archive holds beside the sheets, and which is read at once."""
LONGEST_ROW = 4 << 20
"""Bytes of a row in XML: some 250 for each of Excel's 16,384 columns. A whole row is in memory, at many times that size."""
_ROW = re.compile(rb"<(?:\w+:)?row\b")
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s>/]")
_TAG = 64
"""Bytes of a tag of which a piece of a sheet may hold the first half."""


class Uncalculated(str):
    """The formula of a cell that the file stores without its value, as programs write it that can't calculate."""

    __slots__ = ()


def rows(head: bytes, stream: BinaryIO) -> Iterator[tuple[int, list[str]]]:
    """The rows of the first visible sheet that are not empty, each with its number.

    A cell without its value is `Uncalculated`.

    Args:
        head: the bytes that were read already.
        stream: the others.

    Raises:
        ContractError: it is no Excel file, or is damaged.
        ServiceUnavailable: there is no room for it in a temporary file, which it needs to be read by parts.
    """
    with tempfile.TemporaryFile() as file:
        try:
            file.write(head)
            shutil.copyfileobj(stream, file)
        except OSError as error:
            raise ServiceUnavailable(en("temporary files ($TMPDIR): {}", error.strerror)) from None
        number = 1
        # The extra `worker` has it, and most campaigns don't need it.
        from openpyxl import load_workbook  # noqa: PLC0415

        try:
            for number, row in _sheet(file, load_workbook):
                yield number, row
        except Exception as error:  # noqa: BLE001 - whatever the reader stumbles over is in the file
            problem = en("the file can't be read as an Excel file ({})", type(error).__name__)
            raise ContractError(en("line {}", number), problem) from None


def _sheet(file: Any, load_workbook: Callable[..., Any]) -> Iterator[tuple[int, list[str]]]:
    # For parts that no table needs, such as fonts.
    warnings.filterwarnings("ignore", module=r"openpyxl\.")
    formulas = False
    with ZipFile(file) as archive:
        for part in archive.infolist():
            if part.filename.startswith("xl/worksheets/"):
                formulas |= _scan(archive, part)
            elif part.file_size > LARGEST_PART:
                raise ValueError(part.filename)
    values = _cells(load_workbook(file, read_only=True, data_only=True))
    # What a formula without a value says is only in the sheet's other reading.
    sources = (
        _cells(load_workbook(file, read_only=True, data_only=False)) if formulas else repeat(())
    )
    for number, (cells, written) in enumerate(zip(values, sources, strict=False), 1):
        row = [_text(cell.value) for cell in cells]
        for at, source in enumerate(written):
            # A text that was calculated to nothing says that it is a text.
            if source.data_type == "f" and not row[at] and cells[at].data_type == "n":
                row[at] = Uncalculated(getattr(source.value, "text", source.value))
        while row and not row[-1]:
            row.pop()
        if row:
            yield number, row


def _cells(book: Any) -> Iterator[Sequence[Any]]:
    """The rows of its first visible sheet, with the cells that are stored."""
    sheet = next(sheet for sheet in book.worksheets if sheet.sheet_state == "visible")
    # Some programs write a wrong size.
    sheet.reset_dimensions()
    rows: Iterator[Sequence[Any]] = sheet.iter_rows(max_row=MOST_ROWS)
    return rows


def _scan(archive: ZipFile, part: ZipInfo) -> bool:
    """Whether a sheet holds formulas.

    Raises:
        ValueError: it has a row that would fill the memory: some kilobytes can hold one of gigabytes.
    """
    formulas, length, tail = False, 0, b""
    with archive.open(part) as sheet:
        while piece := sheet.read(1 << 18):
            formulas = formulas or _FORMULA.search(tail + piece) is not None
            begins = [match.start() for match in _ROW.finditer(piece)]
            if length + (begins[0] if begins else len(piece)) > LONGEST_ROW:
                raise ValueError(part.filename)
            length = len(piece) - begins[-1] if begins else length + len(piece)
            tail = piece[-_TAG:]
    return formulas


def _text(value: Any) -> str:
    """A cell as text: without the format in which Excel shows it."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).upper()
        case float():
            return str(int(value)) if value.is_integer() else format(value, ".15g")
        case datetime() if value.time() == time():
            return value.date().isoformat()
        case datetime():
            return value.isoformat(" ", "minutes" if not value.second else "seconds")
        case date() | time():
            return value.isoformat()
        case _:
            return str(value)
