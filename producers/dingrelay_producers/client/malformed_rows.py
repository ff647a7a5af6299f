"""Rows of a list of people that name no person, with their lines."""

from collections.abc import Sequence
from typing import NamedTuple

from dingrelay_tasks.contract import ContractError


class Malformed(NamedTuple):
    """A row that names no person, and why.

    Attributes:
        line: of the file, from 1, or the row's number in an iterable; 0 where it has none.
    """

    line: int
    problem: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}" if self.line else self.problem


class MalformedRecipients(ContractError):
    """Rows name no person, so nothing is done.

    Attributes:
        count: how many there are.
        first: some of them.
    """

    def __init__(self, what: str, count: int, first: Sequence[Malformed]) -> None:
        lines = [str(malformed) for malformed in first]
        if count > len(first):
            lines.append(f"and {count - len(first)} more")
        rows = "1 row is" if count == 1 else f"{count} rows are"
        super().__init__(what, f"{rows} malformed:\n" + "\n".join(lines))
        self.count = count
        self.first = tuple(first)
