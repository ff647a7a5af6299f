"""Lists for people: what a terminal has no room for is left out column by column, and no id is cut."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import console
from dingrelay_producers.language import tr

GAP = 2
"""Characters between two columns."""
READABLE = 16
"""Characters of a text that may be cut which are worth a column."""


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a list.

    Attributes:
        title: its head, in English.
        cell: what it shows of a row.
        rank: 0 for what is always shown; of the others the highest is left out first.
        right: whether it is flush right, as numbers are.
        cut: whether it may be cut at its end; others are folded where even the last ones have no room.
    """

    title: str
    cell: Callable[[Row], Text | str]
    rank: int = 0
    right: bool = False
    cut: bool = False


def print_table(rows: Iterable[Row], *columns: Column[Row]) -> None:
    """Print a list, or that it is empty."""
    texts = [[_text(column.cell(row)) for column in columns] for row in rows]
    if not texts:
        console(stderr=True).print(tr("none"), style="dim")
        return
    out = console()
    shown = fitting(columns, texts, out.width)
    widths = {number: _width(columns[number], number, texts) for number in shown}
    spare = out.width - sum(width + GAP for width in widths.values()) + GAP
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, width in widths.items():
        column = columns[number]
        table.add_column(
            tr(column.title),
            justify="right" if column.right else "left",
            overflow="ellipsis" if column.cut else "fold",
            no_wrap=column.cut,
            # Where there is no room at all, rich folds what it has to.
            width=width if spare >= 0 and not column.cut else None,
            max_width=width + max(0, spare) if column.cut else None,
        )
    for row in texts:
        table.add_row(*(row[number] for number in shown))
    out.print(table)


def fitting(
    columns: Sequence[Column[Any]], rows: Sequence[Sequence[Text]], available: int
) -> Sequence[int]:
    """Which columns there is room for, by their numbers."""
    shown = list(range(len(columns)))
    widths = [_width(column, number, rows) for number, column in enumerate(columns)]
    while sum(widths[number] + GAP for number in shown) - GAP > available:
        least = max(shown, key=lambda number: columns[number].rank)
        if not columns[least].rank:
            break
        shown.remove(least)
    return shown


def _text(cell: Text | str) -> Text:
    return Text(cell) if isinstance(cell, str) else cell


def _width(column: Column[Any], number: int, rows: Sequence[Sequence[Text]]) -> int:
    longest = max((cell_len(row[number].plain) for row in rows), default=0)
    if column.cut:
        longest = min(longest, READABLE)
    return max(cell_len(tr(column.title)), longest)
