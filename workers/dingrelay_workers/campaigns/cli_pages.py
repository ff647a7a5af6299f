"""What the commands of campaigns print for people."""

import csv
import io
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Group, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import (
    Column,
    console,
    length,
    output_file,
    page_of,
    print_table,
    spreadsheet_encoding,
)
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.campaign_documents import (
        CampaignPreview,
        CampaignStatus,
        CreatedCampaign,
        Malformed,
    )
    from dingrelay_workers.campaigns.audience import CreationProgress
    from dingrelay_workers.campaigns.estimate import DryRun, Month
    from dingrelay_workers.campaigns.follow_up import FollowUpPlan
    from dingrelay_workers.campaigns.report import CampaignReport, Result

Write = Callable[[Sequence["Result"]], None]

COLUMNS = ("userid", "outcome", "task_id", "reason")
"""The first has the same name in every language: `--file` of another campaign reads it."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Characters at the start of a value that spreadsheets execute."""


def campaigns_table(found: "Sequence[CampaignStatus]") -> None:
    """Campaigns, one a line."""
    print_table(
        found,
        Column("state", lambda row: row.state),
        Column("id", lambda row: row.id),
        Column("app", lambda row: row.app, rank=4),
        Column(tr("created"), lambda row: local(row.created_at), rank=3),
        Column("people", lambda row: f"{row.recipients:,}", rank=1, right=True),
        Column("calls", lambda row: f"{row.ended:,}/{row.planned:,}", rank=5, right=True),
        Column("name", lambda row: row.name, rank=2, cut=True),
    )


def campaign_page(row: "CampaignStatus") -> Table:
    """One campaign: what it sends, how, and how far it has come."""
    rate = (
        tr("{rate:,} recipients a minute at most", rate=row.rate)
        if row.rate
        else tr("at DingTalk's limits")
    )
    quiet = tr(", quiet {quiet} in Beijing", quiet=row.quiet) if row.quiet else ""
    return page_of(
        (tr("state"), f"{row.state} {translated(row.reason)}".strip()),
        (tr("id"), row.id),
        (tr("name"), row.name),
        (tr("app"), row.app),
        (tr("message"), json.dumps(row.message, ensure_ascii=False)),
        (tr("people"), f"{row.recipients:,}"),
        (
            tr("left out"),
            tr(
                "{duplicates:,} duplicates, {malformed:,} malformed rows",
                duplicates=row.duplicates,
                malformed=row.malformed,
            ),
        ),
        (
            tr("calls"),
            tr(
                "{ended:,} of {planned:,} have ended, {calls:,} were taken",
                ended=row.ended,
                planned=row.planned,
                calls=row.calls,
            ),
        ),
        (
            tr("so far"),
            tr(
                "{accepted:,} accepted, {left_out:,} left out, {failed:,} failed",
                accepted=row.accepted,
                left_out=row.left_out,
                failed=row.failed,
            ),
        ),
        (
            tr("pace"),
            tr("{rate}{quiet}, weight {weight}", rate=rate, quiet=quiet, weight=row.weight),
        ),
        (tr("pauses at"), tr("{error_share:.0%} failed", error_share=row.error_share)),
        (tr("created"), row.created_at),
        (tr("not before"), row.start_at),
        (tr("started"), row.started_at),
        (tr("ended"), row.ended_at),
    )


def print_created(created: "CreatedCampaign", absent: int | None) -> None:
    """A new draft, and on standard error what is missing in it."""
    console().print(
        tr(
            "draft {id}  people: {recipients:,}, calls: {planned:,}, duplicates: {duplicates:,}, "
            "excluded: {excluded:,}, malformed: {malformed:,}",
            id=created.id,
            recipients=created.recipients,
            planned=created.planned,
            duplicates=created.duplicates,
            excluded=created.excluded,
            malformed=created.malformed,
        ),
        markup=False,
    )
    err = console(stderr=True)
    if absent:
        words = tr(
            "{people:,} people are not in the directory: they are looked up before their calls",
            people=absent,
        )
        err.print(words, style="yellow")
    for row in created.skipped:
        err.print(translated(str(row)), style="yellow", markup=False)
    if created.malformed > len(created.skipped):
        err.print(tr("and more: --malformed-file has them all"), style="yellow")


def cost_page(found: "CampaignPreview") -> Table:
    """The cost of a campaign, for people."""
    absent = ""
    if found.not_in_directory:
        absent = tr(
            "{people:,}, who are looked up before their calls", people=found.not_in_directory
        )
    calls = f"{found.calls:,}"
    if found.calls != found.plain_calls:
        calls += tr(", for the fields: without them {plain_calls:,}", plain_calls=found.plain_calls)
    limit = tr(", at {limit}", limit=translated(found.limit)) if found.limit else ""
    starts, ends = local(found.starts_at), local(found.ends_at)
    return page_of(
        (tr("people"), f"{found.recipients:,}"),
        (tr("duplicates"), _count(found.duplicates)),
        (tr("excluded"), _count(found.excluded)),
        (tr("malformed"), _count(found.malformed)),
        (tr("not in the directory"), absent),
        (tr("calls"), calls),
        (
            tr("time"),
            tr("{length} of sending{limit}", length=length(found.minutes * 60), limit=limit),
        ),
        ("", tr("{start} to {end}, if nothing else is sent", start=starts, end=ends)),
        (
            tr("month"),
            month_text(found.quota_used, found.quota_limit, found.quota_share, fits=found.fits),
        ),
        *((tr("line {line}", line=row.line), translated(row.problem)) for row in found.skipped),
    )


def _count(people: int | None) -> str:
    return f"{people:,}" if people else ""


def month_text(used: int, limit: int | None, share: float | None, *, fits: bool) -> str:
    """The share of the month that calls take, in one sentence."""
    if limit is None:
        return tr("{used:,} calls are used, no limit is configured", used=used)
    line = tr(
        "{share:.1%} of {limit:,} calls; {used:,} are used", share=share, limit=limit, used=used
    )
    return line if fits else tr("{line}: it stops before it is through", line=line)


def dry_run_page(cost: "CampaignPreview", found: "DryRun") -> Group:
    """What a draft takes, and the first of its calls."""
    lines: list[RenderableType] = [
        tr(
            "would send to {recipients:,} people in {calls:,} calls",
            recipients=found.recipients,
            calls=found.calls,
        )
    ]
    for call in found.first:
        text = json.dumps(call.message, ensure_ascii=False)
        number = len(call.users) - 1
        others = tr(" and {number} more", number=number) if number else ""
        lines.append(Text(f"{call.users[0]}{others}: {text}"))
    return Group(cost_page(cost), *lines)


def plan_text(plan: "FollowUpPlan", month: "Month") -> str:
    """What jobs about a campaign cost."""
    used = month_text(month.used, month.limit, month.share, fits=month.fits)
    lines = [
        tr(
            "calls of the campaign: {chunks:,}, to {people:,} people",
            chunks=plan.chunks,
            people=plan.people,
        ),
        tr("costs: {calls:,} calls: {month}", calls=plan.calls, month=used),
    ]
    if plan.under_way:
        lines.append(
            tr(
                "of these, {under_way:,} are under way, and are waited for",
                under_way=plan.under_way,
            )
        )
    if plan.repeated:
        lines.append(
            tr(
                "{repeated:,} people are in calls that repeat a lost one: people who got that one keep the "
                "message, and the report names them",
                repeated=plan.repeated,
            )
        )
    if plan.unknown:
        lines.append(
            tr(
                "{unknown:,} people are in calls whose outcome is unknown, which can't be recalled",
                unknown=plan.unknown,
            )
        )
    if plan.too_old:
        lines.append(
            tr("left alone: {too_old:,} calls that are older than 24 hours", too_old=plan.too_old)
        )
    return "\n".join(lines)


def report_page(summary: "CampaignReport") -> Table:
    """What became of a campaign's people, in figures."""
    seconds = summary.seconds
    return page_of(
        (tr("campaign"), f"{summary.name} ({summary.state})"),
        (tr("people"), f"{summary.recipients:,}"),
        *((outcome, _count(people)) for outcome, people in summary.outcomes.items()),
        (tr("calls"), f"{summary.calls:,}"),
        *_special(summary),
        (tr("started"), summary.started_at),
        (tr("ended"), summary.ended_at),
        (
            tr("took") if summary.ended_at else tr("runs for"),
            None if seconds is None else tr("{seconds:,.1f} s", seconds=seconds),
        ),
        *(
            (tr("reason"), f"{each.people:,} {each.outcome}: {translated(each.reason)}")
            for each in summary.reasons
        ),
    )


def _special(summary: "CampaignReport") -> Iterator[tuple[str, str]]:
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


@contextmanager
def csv_writer(name: str) -> Generator[Write]:
    """Writes the outcomes of people into a CSV file."""
    with output_file(name, "--csv", spreadsheet_encoding()) as add:
        add([_row(tr(name) for name in COLUMNS)])

        def write(page: "Sequence[Result]") -> None:
            shown = (result._replace(reason=translated(result.reason)) for result in page)
            add(_row(_harmless(value) for value in result) for result in shown)

        yield write


@contextmanager
def ndjson_writer(name: str) -> Generator[Write]:
    """Writes the outcomes of people into a file, one JSON object a line."""
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


@contextmanager
def creation_progress(malformed_file: str | None) -> "Generator[CreationProgress]":
    """Shows how far a campaign is made, and writes malformed rows into a file, if one is named.

    Raises:
        BadParameter: the file can't be written.
    """
    from dingrelay_workers.campaigns.audience import CreationProgress

    class Shown(CreationProgress):
        """Two steps: how many rows there are shows only when the first is over."""

        def malformed(self, row: "Malformed") -> None:
            if table is not None:
                table.writerow((row.line, translated(row.problem)))

        def read(self, rows: int) -> None:
            bars.update(reading, completed=rows)

        def written(self, people: int, total: int) -> None:
            bars.stop_task(reading)
            bars.start_task(writing)
            bars.update(writing, visible=True, total=total, advance=people)

    with ExitStack() as files, _bars() as bars:
        table = None
        if malformed_file is not None:
            table = csv.writer(files.enter_context(_malformed_rows(malformed_file)))
            table.writerow((tr("line"), tr("problem")))
        reading = bars.add_task(tr("rows read"), total=None)
        writing = bars.add_task(tr("people written"), total=None, start=False, visible=False)
        yield Shown()


def _malformed_rows(name: str) -> TextIO:
    try:
        return Path(name).open("w", encoding=spreadsheet_encoding(), newline="")
    except OSError as error:
        reason = translated(en("{}: {}", name, error.strerror))
        raise typer.BadParameter(reason, param_hint="--malformed-file") from None


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
