"""``dingrelay doctor``: what is wrong, and what to do."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dingrelay_workers.doctor.check_result import CheckResult

MARKS = {
    "ok": ("✓", "green"),
    "warning": ("!", "yellow"),
    "failed": ("✗", "red"),
    "unreachable": ("✗", "red"),
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check settings, Redis, broker, workers, database and each app at DingTalk.

    Asks DingTalk for a token and one cheap call an app. Exit codes: 0 all is well, 1 something is
    wrong, 3 something cannot be reached.
    """
    from dingrelay_producers.cli.exits import DONE, OTHERWISE, UNREACHABLE
    from dingrelay_producers.cli.output import print_json
    from dingrelay_workers.doctor.run_checks import run_checks

    results = asyncio.run(run_checks())
    if as_json:
        print_json([asdict(result) for result in results])
    else:
        _print(results)
    verdicts = {result.verdict for result in results}
    worst = OTHERWISE if "failed" in verdicts else DONE
    raise typer.Exit(UNREACHABLE if "unreachable" in verdicts else worst)


def _print(results: "list[CheckResult]") -> None:
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.cli.output import console

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for result in results:
        mark, colour = MARKS[result.verdict]
        told = Text(result.found)
        if result.advice:
            told.append(f" → {result.advice}", style=colour)
        grid.add_row(Text(mark, style=colour), result.check, told)
    console().print(grid)
