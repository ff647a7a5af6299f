"""The progress of creating and deleting a campaign, on a terminal."""

from collections.abc import Callable, Generator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from dingrelay_producers.cli.output import console
from dingrelay_producers.language import tr


class CreationProgress:
    """Two steps: how many rows there are shows only when the first is over."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._reading = bars.add_task(tr("rows read"), total=None)
        self._writing: TaskID | None = None

    def read(self, rows: int) -> None:
        """So many rows were looked at by now."""
        self._bars.update(self._reading, completed=rows)

    def written(self, people: int, total: int) -> None:
        """So many people of the total are written by now."""
        if self._writing is None:
            self._bars.stop_task(self._reading)
            self._writing = self._bars.add_task(tr("people written"), total=total)
        self._bars.update(self._writing, completed=people)


@contextmanager
def showing() -> Generator[CreationProgress]:
    """Shows it while the block runs; shows nothing where no terminal is."""
    with _bars() as bars:
        yield CreationProgress(bars)


@contextmanager
def counting(what: str) -> Generator[Callable[[int], None]]:
    """Shows how many there are by now, while the block runs and reports it."""
    with _bars() as bars:
        task = bars.add_task(what, total=None)
        yield lambda count: bars.update(task, completed=count)


def _bars() -> Progress:
    err = console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
