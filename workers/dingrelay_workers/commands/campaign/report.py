"""``dingrelay campaign report``: what became of everybody."""

import asyncio
import csv
import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.exits import OTHERWISE
from dingrelay_producers.cli.output import (
    grid_of_fields,
    output_file,
    print_result,
    spreadsheet_encoding,
)
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local
from dingrelay_workers.commands.campaign.follow_up import Yes, refresh
from dingrelay_workers.commands.campaign.run import Id

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.report import Result, Summary

Write = Callable[[Sequence["Result"]], None]

COLUMNS = ("userid", "outcome", "task_id", "reason")
"""The first has the same name in every language: `--file` of another campaign reads it."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters at the start of a value that spreadsheets execute."""


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
    refreshed: Annotated[
        bool,
        typer.Option(
            "--refresh",
            help="First ask DingTalk whom it reached and who read it, of the last 24 hours; two "
            "calls for each of its calls.",
        ),
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option(min=1, help="With --refresh: only so many of its calls, spread over all."),
    ] = None,
    yes: Yes = False,
    timeout: common.Timeout = 3600,
) -> None:
    """Show what became of a campaign's people, in figures and one by one.

    dingrelay campaign report ID --csv results.csv
    """
    from dingrelay_workers.campaigns import documents

    if sample is not None and not refreshed:
        raise typer.BadParameter(tr("goes with --refresh"), param_hint="--sample")
    asked: dict[str, Any] = {}
    complete = True
    if refreshed:
        asked["refreshed"], complete = refresh(campaign, sample=sample, yes=yes, timeout=timeout)
    files: list[AbstractContextManager[Write]] = []
    if csv_file is not None:
        files.append(_csv(csv_file))
    if json_file is not None:
        files.append(_ndjson(json_file))
    summary = asyncio.run(_read(campaign, files))
    print_result(documents.report(summary) | asked, lambda: _page(summary))
    if not complete:
        raise typer.Exit(OTHERWISE)


async def _read(campaign: str, files: Sequence[AbstractContextManager[Write]]) -> "Summary":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.campaigns.report import Report

    own = Settings.load()
    async with opened_store(own) as store:
        report = Report(store.database)
        summary = await report.summary(campaign)
        with ExitStack() as opened:  # only now: a mistyped id empties no file
            writers = [opened.enter_context(file) for file in files]
            if writers:
                async for page in report.results(campaign):
                    for write in writers:
                        write(page)
        return summary


@contextmanager
def _csv(name: str) -> Generator[Write]:
    with output_file(name, "--csv", spreadsheet_encoding()) as add:
        add([_row(tr(name) for name in COLUMNS)])

        def write(page: "Sequence[Result]") -> None:
            shown = (result._replace(reason=translated(result.reason)) for result in page)
            add(_row(_harmless(value) for value in result) for result in shown)

        yield write


@contextmanager
def _ndjson(name: str) -> Generator[Write]:
    with output_file(name, "--json-file") as add:

        def write(page: "Sequence[Result]") -> None:
            add(json.dumps(result._asdict(), ensure_ascii=False) + "\n" for result in page)

        yield write


def _row(values: Iterable[object]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(values)
    return line.getvalue()


def _harmless(value: object) -> object:
    """A value that no spreadsheet takes for a formula; `recipients` reads it as it was."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _page(summary: "Summary") -> Table:
    grid = grid_of_fields()
    grid.add_row(tr("campaign"), Text(f"{summary.name} ({summary.state})"))
    grid.add_row(tr("people"), f"{summary.recipients:,}")
    for outcome, people in summary.outcomes.items():
        if people:
            grid.add_row(outcome, f"{people:,}")
    grid.add_row(tr("calls"), f"{summary.calls:,}")
    for title, value in _special(summary):
        grid.add_row(title, value)
    for title, moment in (("started", summary.started_at), ("ended", summary.ended_at)):
        if moment is not None:
            grid.add_row(tr(title), local(moment))
    if summary.seconds is not None:
        grid.add_row(
            tr("took") if summary.ended_at else tr("runs for"),
            tr("{seconds:,.1f} s", seconds=summary.seconds),
        )
    for reason in summary.reasons:
        words = f"{reason.people:,} {reason.outcome}: {translated(reason.reason)}"
        grid.add_row(tr("reason"), Text(words))
    return grid


def _special(summary: "Summary") -> Iterator[tuple[str, str]]:
    from dingrelay_workers.campaigns.report import SAME_CONTENT

    ambiguous, recalled, reports = summary.ambiguous, summary.recalled, summary.delivery
    if ambiguous.calls:
        people = tr(
            "{calls:,} calls for {people:,} people", calls=ambiguous.calls, people=ambiguous.people
        )
        yield tr("repeated"), f"{people}, {translated(SAME_CONTENT)}"
    if recalled.calls:
        yield (
            tr("recalled"),
            tr(
                "{calls:,} calls for {people:,} people",
                calls=recalled.calls,
                people=recalled.people,
            ),
        )
    if reports.calls:
        counts: dict[str, Any] = {
            name: getattr(reports, name)
            for name in ("delivered", "read", "unread", "invalid", "forbidden", "failed")
        }
        words = ", ".join(f"{count:,} {tr(name)}" for name, count in counts.items())
        yield (
            tr("confirmed"),
            tr(
                "{calls:,} calls for {people:,} people: {words}",
                calls=reports.calls,
                people=reports.people,
                words=words,
            ),
        )
