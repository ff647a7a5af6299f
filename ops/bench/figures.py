"""A measured figure beside what it should be."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from statistics import quantiles
from typing import Any

MARKS = {True: "✓", False: "✗", None: ""}
"""Marks of figures that keep their bounds, break them or have none."""


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
    def ours(self) -> bool:
        """Whether it has bounds; a figure without stands beside such a one."""
        return self.holds is not None

    @property
    def number(self) -> str:
        """The value as it is shown, without its unit."""
        return number(self.value)

    @property
    def bound(self) -> str:
        """The bound, such as ``≥ 98``; empty for none."""
        bounds = [(self.at_least, "≥"), (self.at_most, "≤")]
        return ", ".join(f"{sign} {bound:g}" for bound, sign in bounds if bound is not None)

    @property
    def holds(self) -> bool | None:
        """Whether it keeps its bounds; None if it has none."""
        if self.at_most is None and self.at_least is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    def to_json(self) -> dict[str, Any]:
        """The figure as JSON values, without what it does not have."""
        return {name: value for name, value in asdict(self).items() if value not in {None, ""}}


def number(value: float) -> str:
    """Three digits, and thousands apart."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def percentile(values: Sequence[float], part: int) -> float:
    """The percentile of at least two values, interpolated between two of them if need be."""
    return quantiles(values, n=100, method="inclusive")[part - 1]


def show(figures: Sequence[Figure]) -> None:
    """Print the figures, a line each below what they belong to."""
    for group, members in groupby(figures, key=attrgetter("group")):
        print(f"\n{group}")
        for figure in members:
            value, mark = f"{figure.number} {figure.unit}", MARKS[figure.holds]
            line = f"  {figure.name:42}{value:>14} {figure.bound:>10} {mark:2} {figure.note}"
            print(line.rstrip())
