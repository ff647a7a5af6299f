"""The cell that holds an object known by its id only: all candidates are queried concurrently."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from dingrelay_producers.cells.answers import WITHIN, ask
from dingrelay_producers.errors import DingrelayError

_T = TypeVar("_T")


async def holder(
    cells: Mapping[str, _T],
    holds: Callable[[_T], Awaitable[bool]],
    missing: DingrelayError,
    *,
    within: float = WITHIN,
) -> str:
    """The name of the cell.

    Args:
        cells: those that are queried.
        holds: asks one.
        missing: what is raised where all were asked and none has it.
        within: seconds for each.

    Raises:
        CellUnavailable: none of those that answer has it, and some don't.
    """
    answers = await ask(cells, holds, within=within, enough=lambda _, held: held)
    for cell, held in answers.found.items():
        if held:
            return cell
    answers.whole()
    raise missing
