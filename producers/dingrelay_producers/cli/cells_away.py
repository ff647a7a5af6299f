"""Cells that are away while a command queries all of them: they are named, and the exit code shows it."""

from collections.abc import Generator
from contextlib import contextmanager

import typer

from dingrelay_producers.cli.exits import UNREACHABLE
from dingrelay_producers.cli.output import note
from dingrelay_producers.errors import CellUnavailable
from dingrelay_producers.language import translated

CELLS_AWAY = "cells_away"
"""The field of a document, as in the gateway's."""


class CellsAway:
    """Collects cells that are away, and prints them once the others have been shown."""

    def __init__(self) -> None:
        self._away: dict[str, CellUnavailable] = {}

    def __call__(self, error: CellUnavailable) -> None:
        """These are away."""
        self._away[str(error)] = error

    @property
    def names(self) -> list[str]:
        """Those that are away."""
        return sorted({cell for error in self._away.values() for cell in error.cells})

    @property
    def field(self) -> dict[str, list[str]]:
        """What a document says of them; nothing where none is away."""
        return {CELLS_AWAY: self.names} if self._away else {}

    def warn(self) -> None:
        """Name them.

        Raises:
            Exit: there are some.
        """
        for sentence in self._away:
            note(translated(sentence), style="yellow")
        if self._away:
            raise typer.Exit(UNREACHABLE)


@contextmanager
def cells_away() -> Generator[CellsAway]:
    """Around what asks and shows.

    Raises:
        Exit: some cells were away; they are named behind what was shown.
    """
    away = CellsAway()
    yield away
    away.warn()
