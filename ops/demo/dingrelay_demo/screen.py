"""The terminal's view. Without a terminal the same, once it is final."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dingrelay_producers import JobStatus, State
from dingrelay_producers.cli.output import COLOURS
from dingrelay_producers.language import tr
from dingrelay_sandbox.admin import Row

if TYPE_CHECKING:
    from dingrelay_demo.system import System
    from dingrelay_demo.verify import Verdict

INDENT = "   "
BAR_WIDTH = 40
BIN_SECONDS = 0.5
FULL_BIN = 10
"""Calls in a bin at 20 a second."""
HEIGHTS = "▁▂▃▄▅▆▇█"


class Screen:
    """The terminal. What it is given to show it translates."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._acts = 0

    def title(self) -> None:
        """Print the title."""
        self._console.print()
        self._console.print(
            tr(
                "[bold]dingrelay[/] carries jobs to DingTalk: under its limits, none lost, none twice"
            )
        )

    def ready(self, system: "System", seconds: float) -> None:
        """List the running programs."""
        organisation = system.sandbox.health()
        limits = system.sandbox.limits()
        self._console.print(
            tr(
                "[dim]ready in {seconds:.1f} s:[/] Valkey, two workers, and a DingTalk of {users:,} "
                "people that takes {calls} calls a second",
                seconds=seconds,
                users=organisation["users"],
                calls=limits["calls"].replace("/1s", ""),
            )
        )
        self._console.print(
            tr("[dim]watch it in Flower:[/] [bold cyan]{flower}[/]", flower=system.flower)
        )

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """A line while something goes on, which moves on a terminal."""
        if self._console.is_terminal:
            return self._console.status(what)
        self.say(what)
        return nullcontext()

    def act(self, title: str, **values: object) -> None:
        """The next act begins."""
        self._acts += 1
        self._console.print()
        self._console.print(f"[bold cyan]{self._acts}[/] [bold]{tr(title, **values)}[/]")

    def job(self, name: str, status: JobStatus) -> None:
        """One job that has ended."""
        line = Text(f"{INDENT}{name:<40}")
        line.append(f"{status.state:<6}", style=COLOURS[status.state])
        line.append(f"{self.took(status):>8}", style="dim")
        if status.error:
            line.append(f"  {status.error.code} {status.error.message}", style="red")
        self._console.print(line)

    def note(self, sentence: str, **values: object) -> None:
        """Print an observation, in a sentence."""
        said = Text(f"→ {tr(sentence, **values)}", style="green")
        self._console.print(Padding(said, (0, 0, 0, len(INDENT))))

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(Text(text), soft_wrap=True)

    @staticmethod
    def took(status: JobStatus) -> str:
        """From enqueue to the end."""
        assert status.settled_at
        seconds = (status.settled_at - status.created_at).total_seconds()
        return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"

    @contextmanager
    def bar(self, total: int, noun: str) -> Generator[Callable[[int, Sequence[Row]], None]]:
        """A bar that fills up while jobs end, with the number of calls at DingTalk."""
        colour = COLOURS[State.DONE]

        def show(ended: int, calls: Sequence[Row]) -> None:
            row = Table.grid(padding=(0, 2))
            bar = ProgressBar(total, ended, BAR_WIDTH, complete_style=colour, finished_style=colour)
            row.add_row(INDENT[:-2], bar, f"{ended}/{total} {noun}")
            live.update(Group(row, *([_graph(calls)] if calls else [])), refresh=True)

        with Live(console=self._console, auto_refresh=False) as live:
            yield show
        if not self._console.is_terminal:
            self._console.print()  # there, rich leaves the last frame without its line end

    def verdict(self, verdict: "Verdict", seconds: float) -> None:
        """The table of the end, and whether DingTalk's own audit agrees with it."""
        self._console.print()
        self._console.print(verdict.table())
        for disagreement in verdict.disagreements:
            self._console.print(Text(f"✗ {disagreement}", style="bold red"))
        if verdict.agrees:
            self._console.print(
                tr(
                    "[bold green]✓ the audit of the sandbox agrees[/] [dim]({seconds:.0f} s)[/]",
                    seconds=seconds,
                )
            )

    def ended(self) -> None:
        """How to look around, which is over now."""
        self._console.print(
            tr(
                "[dim]to look around in Flower afterwards:[/] {command}",
                command="make demo ARGS=--keep",
            )
        )

    def kept(self, system: "System") -> None:
        """Everything runs on."""
        self._console.print(tr("{flower} and the rest run on until Ctrl-C", flower=system.flower))


def _graph(calls: Sequence[Row]) -> Text:
    """The calls of each half second: as high as they were many, red where some were throttled."""
    start = calls[0]["at"]
    bins = [int((call["at"] - start) / BIN_SECONDS) for call in calls]
    seen = Counter(bins)
    refused = {
        number for number, call in zip(bins, calls, strict=True) if call["verdict"] == "throttled"
    }
    graph = Text(INDENT)
    for number in range(max(bins) + 1):
        count = seen[number]
        height = min(len(HEIGHTS) - 1, count * len(HEIGHTS) // (FULL_BIN + 1))
        graph.append(
            HEIGHTS[height] if count else "·", style="red" if number in refused else "cyan"
        )
    throttled = sum(call["verdict"] == "throttled" for call in calls)
    seconds = max(BIN_SECONDS, calls[-1]["at"] - start)
    graph.append(
        tr("  {count} calls in {seconds:.1f} s", count=len(calls), seconds=seconds), style="dim"
    )
    if throttled:
        graph.append(tr(", {throttled} throttled", throttled=throttled), style="red")
    return graph
