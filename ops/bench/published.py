"""The run whose figures the documents show."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from figures import Figure
from measurements import MEASUREMENTS

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "docs" / "bench.json"


@dataclass(frozen=True, slots=True)
class Published:
    """A report as it was written.

    Attributes:
        groups: the letter of a measurement → its figures, by what they belong to.
        about: the rest: machine, versions, command, date, seconds.
    """

    groups: Mapping[str, Sequence[Sequence[Figure]]]
    about: Mapping[str, Any]

    @classmethod
    def read(cls) -> Self:
        """The report in ``docs/bench.json``."""
        return cls.from_json(json.loads(PUBLISHED.read_text("utf-8")))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The report that `report.Report` wrote."""
        groups: dict[str, list[list[Figure]]] = {}
        for measured in content["measurements"]:
            figures = [Figure.from_json(figure) for figure in measured["figures"]]
            grouped = groupby(figures, key=lambda figure: figure.group)
            groups[measured["letter"]] = [list(members) for _, members in grouped]
        about = {name: value for name, value in content.items() if name != "measurements"}
        return cls(groups, about)

    def find(self, letter: str, group: int, name: str) -> Figure | None:
        """A figure of the nth group of a measurement; None where it was not measured."""
        for members in self.groups.get(letter, ())[group : group + 1]:
            for figure in members:
                if figure.name == name:
                    return figure
        return None


def written(content: Mapping[str, Any]) -> str:
    """A report as it is written: a figure a line, without measurements that no longer exist."""
    letters = {measurement.letter for measurement in MEASUREMENTS}
    kept = [each for each in content["measurements"] if each["letter"] in letters]
    about = {**content, "seconds": round(sum(each["seconds"] for each in kept))}
    lines = [f" {_name(name)}{_json(value)}," for name, value in about.items() if name != LAST]
    measured: list[str] = []
    for each in kept:
        figures = [_json(Figure.from_json(figure).to_json()) for figure in each["figures"]]
        head = _json({**each, "figures": None}).removesuffix("null}")
        measured.append(f"  {head}[\n   " + ",\n   ".join(figures) + "]}")
    return "\n".join(["{", *lines, f" {_name(LAST)}[", ",\n".join(measured) + "]", "}", ""])


LAST = "measurements"


def _name(name: str) -> str:
    return f"{_json(name)}: "


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
