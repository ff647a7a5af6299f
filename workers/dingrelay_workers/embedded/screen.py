"""The terminal that all programs of a system share."""

from itertools import cycle

from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from dingrelay_producers.language import tr

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta")
OURS = "up"
FACT_COLUMNS = 8
"""Width of the longest name of a fact, a Chinese character being two wide."""


class Screen:
    """Prints each line with the coloured name of who wrote it."""

    def __init__(self, console: Console, names: list[str]) -> None:
        self._console = console
        self._width = max(len(name) for name in [*names, OURS])
        self._colours = dict(zip(names, cycle(COLOURS), strict=False)) | {OURS: "bold"}

    def line(self, name: str, text: str) -> None:
        """One line of a program."""
        prefix = Text(f"{name:<{self._width}} │ ", style=self._colours[name])
        self._console.print(prefix + Text.from_ansi(text), soft_wrap=True)

    def say(self, text: str) -> None:
        """One line of ours."""
        self.line(OURS, text)

    def banner(self, title: str, facts: dict[str, str], command: str) -> None:
        """The programs that run, their addresses, and commands to try first."""
        self._console.print()
        self._console.print(Text(title, style="bold green"))
        for name, fact in facts.items():
            title = set_cell_size(tr(name), FACT_COLUMNS)
            self._console.print(f"  {title} {fact}", markup=False, soft_wrap=True)
        self._console.print(f"  {tr('In another terminal, in this folder:')}")
        self._console.print(Text(f"    {command}", style="bold"), soft_wrap=True)
        self._console.print(f"  {tr('Ctrl-C ends everything.')}")
        self._console.print()
