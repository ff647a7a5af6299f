"""Lines of a stream in batches: what has come is handed out, and nothing waits for a full batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from queue import Empty, Queue
from threading import Thread
from typing import BinaryIO

from dingrelay_tasks.contract import ContractError

AHEAD = 1_000
"""Lines in memory that are read and not handed out."""
LONGEST = 8_000_000
"""Bytes of a line at most: a job may have 1 MB, and JSON may spell each of its characters in six."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its number, from 1 on."""

    number: int
    text: str


class LineError(ContractError):
    """A line that is wrong.

    Attributes:
        number: the line's, from 1 on.
    """

    def __init__(self, number: int, field: str, problem: str) -> None:
        super().__init__(f"line {number}: {field}" if field else f"line {number}", problem)
        self.number = number


def batches(lines: BinaryIO, first: int, most: int) -> Iterator[list[Line]]:
    """The lines from number `first` on, up to `most` at once.

    Raises:
        LineError: a line is not UTF-8, or too long; those before it have been handed out.
    """
    arriving: Queue[Line | Exception | None] = Queue(AHEAD)
    # A pipe may be silent for hours: its reader must not keep the process when Ctrl-C ends it.
    Thread(target=_read, args=(lines, first, arriving), daemon=True).start()
    end: Line | Exception | None = Line(0, "")
    while isinstance(end, Line):
        batch: list[Line] = []
        end = arriving.get()
        while isinstance(end, Line):
            batch.append(end)
            if len(batch) == most:
                break
            try:
                end = arriving.get_nowait()
            except Empty:
                break
        if batch:
            yield batch
    if end is not None:
        raise end


def _read(lines: BinaryIO, first: int, arriving: Queue[Line | Exception | None]) -> None:
    try:
        for line in _numbered(lines, first):
            arriving.put(line)
    except Exception as error:  # noqa: BLE001 - raised where the lines are used
        arriving.put(error)
    else:
        arriving.put(None)


def _numbered(lines: BinaryIO, first: int) -> Iterator[Line]:
    for number in count(1):
        line = lines.readline(LONGEST)
        if not line:
            return
        if len(line) == LONGEST:
            raise LineError(number, "", f"is longer than {LONGEST:,} bytes")
        if number >= first:
            yield Line(number, _text(number, line))


def _text(number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise LineError(number, "", "is not UTF-8") from None
