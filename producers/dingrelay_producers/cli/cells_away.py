"""Cells that are away while a command asks all of them: they are named, and the exit code tells."""

from collections.abc import Generator
from contextlib import contextmanager

import typer

from dingrelay_producers.cli.exits import UNREACHABLE
from dingrelay_producers.errors import CellUnavailable
from dingrelay_producers.language import translated


class CellsAway:
    """Collects what is away, and tells it once the others have been shown."""

    def __init__(self) -> None:
        self._told: dict[str, CellUnavailable] = {}

    def __call__(self, error: CellUnavailable) -> None:
        """These are away."""
        self._told[str(error)] = error

    def tell(self) -> None:
        """Name them.

        Raises:
            Exit: there are some.
        """
        from dingrelay_producers.cli.output import tell

        for sentence in self._told:
            tell(translated(sentence), style="yellow")
        if self._told:
            raise typer.Exit(UNREACHABLE)


@contextmanager
def cells_away() -> Generator[CellsAway]:
    """Around what asks and shows.

    Raises:
        Exit: some cells were away; they are named behind what was shown.
    """
    away = CellsAway()
    yield away
    away.tell()
