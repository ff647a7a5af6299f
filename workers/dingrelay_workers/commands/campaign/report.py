"""``dingrelay campaign report``: what became of everybody."""

import asyncio
import csv
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from dingrelay_producers.cli import options as common
from dingrelay_workers.commands.campaign.run import Id

if TYPE_CHECKING:
    from rich.table import Table

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.report import Result, Summary

Write = Callable[[Sequence["Result"]], None]

COLUMNS = ("userid", "outcome", "task_id", "reason")

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What begins a cell that spreadsheets execute."""


def report(
    campaign: Id,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write every recipient as CSV.")
    ] = None,
    json_file: Annotated[
        str | None,
        typer.Option(
            "--json-file", metavar="FILE", help="Write every recipient, one JSON object a line."
        ),
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Tell what became of a campaign's people, in figures and one by one.

    dingrelay campaign report ID --csv results.csv
    """
    from dingrelay_producers.cli.output import console, print_json
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents

    settings = Settings.load()
    with ExitStack() as files:
        writers: list[Write] = []
        if csv_file is not None:
            writers.append(files.enter_context(_csv(csv_file)))
        if json_file is not None:
            writers.append(files.enter_context(_ndjson(json_file)))
        summary = asyncio.run(_read(settings, campaign, writers))
    if as_json:
        print_json(documents.report(summary))
    else:
        console().print(_page(summary))


async def _read(settings: "Settings", campaign: str, writers: Sequence[Write]) -> "Summary":
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.campaigns.report import Report

    async with opened_store(settings) as store:
        report = Report(store.database)
        summary = await report.summary(campaign)
        if writers:
            async for page in report.results(campaign):
                for write in writers:
                    write(page)
        return summary


@contextmanager
def _csv(name: str) -> Generator[Write]:
    with _open(name, "--csv") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)

        def write(page: "Sequence[Result]") -> None:
            table.writerows([_harmless(value) for value in result] for result in page)

        yield write


@contextmanager
def _ndjson(name: str) -> Generator[Write]:
    with _open(name, "--json-file") as file:

        def write(page: "Sequence[Result]") -> None:
            file.writelines(
                json.dumps(result._asdict(), ensure_ascii=False) + "\n" for result in page
            )

        yield write


def _harmless(value: object) -> object:
    """A value that no spreadsheet takes for a formula; `recipients` reads it as it was."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _open(name: str, option: str) -> TextIO:
    try:
        return Path(name).open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise typer.BadParameter(f"{name}: {error.strerror}", param_hint=option) from None


def _page(summary: "Summary") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.cli.output import local

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("campaign", Text(f"{summary.name} ({summary.state})"))
    grid.add_row("people", f"{summary.recipients:,}")
    for outcome, people in summary.outcomes.items():
        if people:
            grid.add_row(outcome, f"{people:,}")
    grid.add_row("calls", f"{summary.calls:,}")
    for title, told in _special(summary):
        grid.add_row(title, told)
    for title, moment in (("started", summary.started_at), ("ended", summary.ended_at)):
        if moment is not None:
            grid.add_row(title, local(moment))
    if summary.seconds is not None:
        grid.add_row("took" if summary.ended_at else "runs for", f"{summary.seconds:,.1f} s")
    for reason in summary.reasons:
        words = f"{reason.people:,} {reason.outcome}: {reason.reason}"
        grid.add_row("reason", Text(words))
    return grid


def _special(summary: "Summary") -> Iterator[tuple[str, str]]:
    from dingrelay_workers.campaigns.report import SAME_CONTENT

    ambiguous, recalled, told = summary.ambiguous, summary.recalled, summary.delivery
    if ambiguous.calls:
        people = f"{ambiguous.calls:,} calls for {ambiguous.people:,} people"
        yield "repeated", f"{people}, {SAME_CONTENT}"
    if recalled.calls:
        yield "recalled", f"{recalled.calls:,} calls for {recalled.people:,} people"
    if told.calls:
        counts: dict[str, Any] = {
            name: getattr(told, name)
            for name in ("delivered", "read", "unread", "invalid", "forbidden", "failed")
        }
        words = ", ".join(f"{count:,} {name}" for name, count in counts.items())
        yield "confirmed", f"{told.calls:,} calls for {told.people:,} people: {words}"
