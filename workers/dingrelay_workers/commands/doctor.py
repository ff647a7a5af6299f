"""``dingrelay doctor``: what is wrong, and what to do."""

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dingrelay_workers.doctor.check_result import Finding

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
    from dingrelay_workers.doctor.run_checks import examine

    findings = asyncio.run(examine())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    verdicts = {finding.verdict for finding in findings}
    worst = OTHERWISE if "failed" in verdicts else DONE
    raise typer.Exit(UNREACHABLE if "unreachable" in verdicts else worst)


def _print(findings: "list[Finding]") -> None:
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.cli.output import console

    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for finding in findings:
        mark, colour = MARKS[finding.verdict]
        told = Text(finding.found)
        if finding.advice:
            told.append(f" → {finding.advice}", style=colour)
        grid.add_row(Text(mark, style=colour), finding.check, told)
    console().print(grid)
