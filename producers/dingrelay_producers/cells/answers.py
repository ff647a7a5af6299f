"""The answers of all cells, where some may be away: concurrent queries with a short time-out."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dingrelay_producers.errors import CellUnavailable, ServiceUnavailable

WITHIN = 5.0
"""Seconds for the answers of all cells, which are queried concurrently."""
SILENT = "it does not answer in time"

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class Answers(Generic[_R]):
    """What came back.

    Attributes:
        found: cell → what it answers.
        away: cell → why it does not.
    """

    found: dict[str, _R] = field(default_factory=dict[str, _R])
    away: dict[str, str] = field(default_factory=dict[str, str])

    def in_order(self, cells: Iterable[str]) -> "Answers[_R]":
        """The same, in the order of these cells."""
        names = list(cells)
        return Answers(
            {name: self.found[name] for name in names if name in self.found},
            {name: self.away[name] for name in names if name in self.away},
        )

    def whole(self) -> Iterable[_R]:
        """What each cell answers.

        Raises:
            CellUnavailable: not all did.
        """
        if self.away:
            raise CellUnavailable(self.away)
        return self.found.values()


def merged(
    lists: Iterable[Sequence[_R]], place: Callable[[_R], Any], *, reverse: bool = False
) -> list[_R]:
    """The lists of several cells as one, in the order of `place`; that of one is in its order already."""
    known = list(lists)
    found = [each for own in known for each in own]
    if len(known) > 1:
        found.sort(key=place, reverse=reverse)
    return found


def _any(_: str, __: object) -> bool:
    """Every cell's answer is waited for."""
    return False


async def ask(
    cells: Mapping[str, _T],
    question: Callable[[_T], Awaitable[_R]],
    *,
    within: float = WITHIN,
    enough: Callable[[str, _R], bool] = _any,
) -> Answers[_R]:
    """Ask cells at the same time, on an event loop.

    Args:
        cells: those that are queried. One without a name is the only one there is: its errors are raised.
        question: what to ask.
        within: seconds for each.
        enough: whether the answer of a cell makes those that are still to come needless.
    """
    answers = Answers[_R]()
    if "" in cells:
        answers.found[""] = await question(cells[""])
        return answers
    asking = {
        asyncio.create_task(_within(question(asked), within)): name for name, asked in cells.items()
    }
    left = set(asking)
    for task in asking:
        task.add_done_callback(_retrieved)
    try:
        while left:
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                _note(answers, asking[task], task.result)
            answered = [asking[task] for task in done if asking[task] in answers.found]
            if any(enough(name, answers.found[name]) for name in answered):
                break
    finally:
        for task in left:
            task.cancel()
    return answers.in_order(cells)


def _retrieved(task: "asyncio.Task[_R]") -> None:
    """One error is raised; the others count as retrieved, so that asyncio logs none."""
    if not task.cancelled():
        task.exception()


async def _within(answer: Awaitable[_R], seconds: float) -> _R:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise ServiceUnavailable(SILENT) from None


def _note(answers: Answers[_R], name: str, result: Callable[[], _R]) -> None:
    try:
        answers.found[name] = result()
    except ServiceUnavailable as error:
        if not name:
            raise
        answers.away[name] = reason(error)


def reason(error: ServiceUnavailable) -> str:
    """What is wrong with one cell, without its name."""
    if isinstance(error, CellUnavailable) and len(error.cells) == 1:
        return next(iter(error.cells.values()))
    return str(error)
