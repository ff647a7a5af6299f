"""A measured figure beside what it should be."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One number.

    Attributes:
        group: what it belongs to.
        name: whose it is.
        value: as measured.
        unit: of the value, such as ``%`` or ``ms/job``.
        at_most: an upper bound that it must keep, if it is ours.
        at_least: a lower bound that it must reach, if it is ours.
        note: what else the run showed.
    """

    group: str
    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether it keeps its bounds; None if it has none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON values."""
        return {**asdict(self), "holds": self.holds}


def show(figures: Sequence[Figure]) -> None:
    """Print the figures as one table."""
    table = Table(title="dingrelay beside its peers, one run")
    for column in ("what", "who", "measured", "bound", "", "note"):
        justify = "right" if column in {"measured", "bound"} else "left"
        table.add_column(column, justify=justify, overflow="fold")
    group = ""
    for figure in figures:
        if figure.group != group and group:
            table.add_section()
        first = figure.group if figure.group != group else ""
        group = figure.group
        mark = {True: "[green]✓", False: "[red]✗", None: ""}[figure.holds]
        value = f"{figure.value:.3g} {figure.unit}".strip()
        table.add_row(first, figure.name, value, _bound(figure), mark, figure.note)
    Console(width=120).print(table)


def _bound(figure: Figure) -> str:
    bounds = [(figure.at_least, "≥"), (figure.at_most, "≤")]
    return " ".join(f"{sign} {bound:g}" for bound, sign in bounds if bound is not None)
