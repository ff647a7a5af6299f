"""The run whose figures the documents show."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from figures import Figure

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
    def read(cls, path: Path = PUBLISHED) -> Self:
        """The report in a file."""
        return cls.from_json(json.loads(path.read_text("utf-8")))

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
