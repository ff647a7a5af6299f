"""``dingrelay doctor``: what is wrong, and what to do."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import can_print, print_result
from dingrelay_producers.exit_codes import DONE, OTHERWISE, UNREACHABLE
from dingrelay_producers.language import ENGLISH, spoken, tr, translated

if TYPE_CHECKING:
    from dingrelay_workers.doctor.causes import CheckResult

MARKS = {
    "ok": ("✓", "ok", "green"),
    "warning": ("!", "!", "yellow"),
    "failed": ("✗", "no", "red"),
    "unreachable": ("✗", "no", "red"),
}
"""Verdict → its mark, the same for a terminal that has no such character, and its colour."""


def doctor(
    settle_ended: Annotated[
        bool,
        typer.Option(
            "--settle-ended",
            help="After Redis was restored from a backup: end the jobs in it that have ended since.",
        ),
    ] = False,
) -> None:
    """Check settings, Redis, broker, workers, database and each app at DingTalk.

    Asks DingTalk for a token, and makes three reads an app that change nothing. Exit codes: 0 all is well, 1 something is
    wrong, 3 something cannot be reached.
    """
    from dingrelay_workers.doctor.run_checks import run_checks

    # Results in JSON are the same in any language, and are translated where they are printed.
    with spoken(ENGLISH):
        results = asyncio.run(run_checks(settle_ended=settle_ended))
    print_result([asdict(result) for result in results], lambda: _page(results))
    verdicts = {result.verdict for result in results}
    worst = OTHERWISE if "failed" in verdicts else DONE
    raise typer.Exit(UNREACHABLE if "unreachable" in verdicts else worst)


def _page(results: "list[CheckResult]") -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    arrow = " → " if can_print("→") else ": "
    for result in results:
        mark, word, colour = MARKS[result.verdict]
        text = Text(_shown_finding(result.found))
        if result.advice:
            text.append(f"{arrow}{translated(result.advice)}", style=colour)
        grid.add_row(
            Text(mark if can_print(mark) else word, style=colour),
            _title_of_check(result.check),
            text,
        )
    return grid


def _title_of_check(name: str) -> str:
    """Title of a check; most names are made of words that the catalogue has."""
    spoken = translated(name)
    return spoken if spoken != name else " ".join(tr(word) for word in name.split(" "))


def _shown_finding(text: str) -> str:
    spoken = translated(text)
    return spoken if spoken != text else tr(text)
