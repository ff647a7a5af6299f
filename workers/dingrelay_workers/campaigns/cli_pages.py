"""Output of the campaign commands for people."""

import asyncio
import csv
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import (
    Column,
    as_json,
    console,
    page_of,
    print_json,
    print_table,
)
from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_producers.language import tr, translated
from dingrelay_producers.spreadsheet import SPREADSHEET, harmless
from dingrelay_producers.store import clock
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.client.campaign_documents import (
        CampaignPreview,
        CampaignStatus,
        Malformed,
    )
    from dingrelay_workers.campaigns.audience import CreationProgress
    from dingrelay_workers.campaigns.report import CallSums, CampaignPerson, CampaignReport


def campaigns_table(found: "Sequence[CampaignStatus]") -> None:
    """Campaigns, one a line."""
    print_table(
        found,
        Column("state", lambda row: row.stage),
        Column("id", lambda row: row.id),
        Column("app", lambda row: row.app, rank=4),
        Column(tr("created"), lambda row: local(row.created_at), rank=3),
        Column("people", lambda row: f"{row.recipients:,}", rank=1, right=True),
        Column("calls", lambda row: f"{row.ended:,}/{row.planned:,}", rank=5, right=True),
        Column("name", lambda row: row.name, rank=2, cut=True),
    )


def campaign_page(row: "CampaignStatus") -> Table:
    """One campaign: what it sends, how, and how far it has come."""
    fields = dict(row)
    rate = tr("at DingTalk's limits")
    if row.rate:
        rate = tr("{rate:,} recipients a minute at most", rate=row.rate)
    quiet = tr(", quiet {quiet} in Beijing", quiet=row.quiet) if row.quiet else ""
    return page_of(
        (tr("state"), f"{row.stage} {translated(row.reason)}".strip()),
        (tr("waits"), translated(row.waits) if row.waits != row.reason else ""),
        (tr("id"), row.id),
        (tr("name"), row.name),
        (tr("version"), str(row.version)),
        (tr("app"), row.app),
        (tr("message"), json.dumps(row.message, ensure_ascii=False)),
        (tr("people"), f"{row.recipients:,}"),
        (
            tr("left out"),
            tr(
                "{duplicates:,} duplicates, {malformed:,} malformed rows, {unmatched:,} unmatched rows, {excluded:,} excluded",
                **fields,
            ),
        ),
        (
            tr("calls"),
            tr("{ended:,} of {planned:,} have ended, {calls:,} were taken", **fields),
        ),
        (
            tr("so far"),
            tr("{accepted:,} accepted, {left_out:,} left out, {failed:,} failed", **fields),
        ),
        (
            tr("pace"),
            tr("{rate}{quiet}, weight {weight}", rate=rate, quiet=quiet, weight=row.weight),
        ),
        (tr("pauses at"), tr("{error_share:.0%} failed", **fields)),
        (tr("created"), row.created_at),
        (tr("not before"), row.start_at),
        (tr("started"), row.started_at),
        (tr("ended"), row.ended_at),
    )


def print_created(created: "CampaignStatus") -> None:
    """A new campaign, and on standard error what is missing in it."""
    line = tr(
        "draft {id}  people: {recipients:,}, calls: {planned:,}, duplicates: {duplicates:,}, "
        "excluded: {excluded:,}, malformed: {malformed:,}, unmatched: {unmatched:,}",
        **dict(created),
    )
    console().print(line, markup=False)
    err = console(stderr=True)
    for finding in _findings(created.preview) if created.preview else ():
        if finding.style:
            err.print(finding)
    for row in created.skipped:
        err.print(translated(str(row)), style="yellow", markup=False)
    if created.malformed + created.unmatched > len(created.skipped):
        err.print(tr("and more: --malformed-file has them all"), style="yellow")


def cost_page(found: "CampaignPreview") -> Group:
    """The cost of a campaign, and who would not get it, for people."""
    skipped = (f"{translated(row.place)}: {translated(row.problem)}" for row in found.skipped)
    first = (
        f"{each.userid}: {json.dumps(each.message, ensure_ascii=False)}" for each in found.first
    )
    return Group(*_findings(found), *map(Text, (*skipped, *first)))


def _findings(found: "CampaignPreview") -> Iterator[Text]:
    """Findings of a check, the worst first, coloured where attention is needed."""
    from dingrelay_workers.campaigns.findings import findings_of

    for tone, *words in findings_of(found):
        style = {"bad": "red", "doubt": "yellow"}.get(tone, "")
        yield Text(" ".join(map(translated, filter(None, words))), style)


def report_page(summary: "CampaignReport") -> Table:
    """Outcomes of a campaign's people, in figures."""
    seconds = summary.seconds
    return page_of(
        (tr("campaign"), f"{summary.name} ({summary.state})"),
        (tr("people"), f"{summary.recipients:,}"),
        *(
            (outcome, f"{people:,} {translated(OUTCOMES[outcome].result)}" if people else "")
            for outcome, people in summary.outcomes.items()
        ),
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
    if summary.calls and not reports.calls:
        unasked = tr(
            "not asked. `dingrelay campaign report {id} --refresh` asks DingTalk who got it and who read it: "
            "within 24 hours of a call, with two calls for each of {calls:,}, while workers run",
            **dict(summary),
        )
        yield tr("delivery"), unasked
    if ambiguous.calls:
        yield tr("repeated"), f"{_calls_for(ambiguous)}, {translated(SAME_CONTENT)}"
    if recalled.calls:
        yield tr("recalled"), _calls_for(recalled)
    if reports.calls:
        names = ("delivered", "read", "unread", "invalid", "forbidden", "failed")
        words = ", ".join(f"{getattr(reports, name):,} {tr(name)}" for name in names)
        yield (
            tr("confirmed"),
            tr("{calls:,} calls for {people:,} people: {words}", **dict(reports), words=words),
        )


def _calls_for(sums: "CallSums") -> str:
    return tr("{calls:,} calls for {people:,} people", **dict(sums))


def people_table(found: "Sequence[CampaignPerson]") -> None:
    """Recipients, one a line."""
    print_table(
        found,
        Column("userid", lambda row: row.userid),
        Column("name", lambda row: row.name, rank=1),
        Column("outcome", lambda row: row.outcome),
        Column("reason", lambda row: translated(row.reason), rank=2, cut=True),
        Column("task_id", lambda row: str(row.task_id or ""), rank=3),
    )


@contextmanager
def creation_progress(malformed_file: str | None) -> "Generator[CreationProgress]":
    """Shows how far a campaign is made, and writes malformed rows into a file, if one is named.

    Raises:
        BadParameter: the file can't be written.
    """
    from dingrelay_workers.campaigns.audience import CreationProgress

    class ShownProgress(CreationProgress):
        """Two steps: how many rows there are shows only when the first is over."""

        def malformed(self, row: "Malformed") -> None:
            if table is not None:
                table.writerow((row.line, harmless(translated(row.problem))))

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
        yield ShownProgress()


def _malformed_rows(name: str) -> TextIO:
    try:
        return Path(name).open("w", encoding=SPREADSHEET, newline="")
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


if TYPE_CHECKING:
    from redis.asyncio import Redis

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.limiter.buckets import BucketState

LOOK_SECONDS = 1.0
LINE_SECONDS = 10.0
"""Between two lines of progress without a terminal; the final state is printed in any case."""
ENDS = {"done", "cancelled"}
API = "message.send"


async def watch(campaign: str) -> None:
    """Print how far a campaign is until it ends; as JSON, one line a second."""
    from dingrelay_producers.settings import Settings

    settings = Settings.load()
    if as_json.get():
        async for look in _looks(settings, campaign):
            print_json(look)
        return
    out = console()
    if not out.is_terminal:
        await _print_lines(_looks(settings, campaign))
        return
    with Live(console=out, auto_refresh=False) as live:
        async for look in _looks(settings, campaign):
            live.update(_page(look), refresh=True)


async def _print_lines(looks: AsyncGenerator[dict[str, Any], None]) -> None:
    """A line when the state changes, when people were reached, and now and then in any case."""
    before, printed = None, 0.0
    async for look in looks:
        shown, now = (look["state"], look["reason"], _known(look)), time.monotonic()
        if shown != before and (
            before is None or shown[:2] != before[:2] or now >= printed + LINE_SECONDS
        ):
            before, printed = shown, now
            typer.echo(_line(look))


def _line(look: dict[str, Any]) -> str:
    return f"{_standing(look)}, {_progress(look)}; {_outcome(look)}"


def _standing(look: dict[str, Any]) -> str:
    """The campaign's state, and why it waits."""
    why = translated(look["waits"] or look["reason"]).rstrip(".。")
    return ": ".join(filter(None, (look["state"], why)))


async def _looks(settings: "Settings", campaign: str) -> AsyncGenerator[dict[str, Any], None]:
    """A look a second, and the last one once the campaign has ended.

    Raises:
        CampaignNotFound: there is none with this id.
        ServiceUnavailable: the database or Redis can't be used.
        SettingsError: a rule in the settings can't be read.
    """
    from dingrelay_workers.database.schema import opened
    from dingrelay_workers.store.connections import impatient_redis

    rate, before, at = 0.0, None, time.monotonic()
    async with opened(settings) as database, impatient_redis(settings) as redis:
        while True:
            look = await _look(database, redis, settings, campaign)
            known, now = _known(look), time.monotonic()
            if before is not None and now > at:
                latest = (known - before) / (now - at)
                # Chunks settle in bursts: a rate that leaps is no use.
                rate = latest if not rate else rate + (latest - rate) * 0.3
            before, at = known, now
            left = look["recipients"] - known
            goes = look["state"] == "running"
            look["rate"] = round(rate, 1)
            look["seconds_left"] = round(left / rate) if goes and rate and left else None
            yield look
            if look["state"] in ENDS:
                return
            await asyncio.sleep(LOOK_SECONDS)


def _known(look: dict[str, Any]) -> int:
    return sum(look[name] for name in ("accepted", "left_out", "failed"))


async def _look(
    database: "Database", redis: "Redis", settings: "Settings", campaign: str
) -> dict[str, Any]:
    from dingrelay_workers.campaigns.store import find
    from dingrelay_workers.campaigns.waiting import why_it_waits
    from dingrelay_workers.limiter.overview import read_pace

    async with database.read() as connection:
        row = await find(connection, campaign)
    states = [
        state
        for state in (await read_pace(redis, settings)).buckets
        if state.scope == f"app:{row.app}" and state.api == API
    ]
    names = ("state", "reason", "app", "recipients", "accepted", "left_out", "failed", "calls")
    return {
        "id": campaign,
        **{name: getattr(row, name) for name in names},
        "waits": await why_it_waits(settings, redis, row, clock.now()),
        "throttles": sum(state.throttles for state in states),
        "limits": [_limit(state) for state in states],
    }


def _limit(state: "BucketState") -> dict[str, Any]:
    """How much of a bucket is taken, from 0 to 1; None where there is no limit.

    `parked_seconds` is how long the last job that waits for it will have to.
    """
    from dingrelay_workers.limiter.rules import LARGEST_COST

    full = LARGEST_COST["recipients" if state.unit == "recipients" else "calls"]
    parked = state.horizon and (state.horizon - clock.now()).total_seconds()
    return {
        "unit": state.unit,
        "used": round(1 - max(0.0, state.balance) / full, 3) if state.limit else None,
        "paused": state.reason if state.paused_until else "",
        "parked_seconds": round(max(0.0, parked or 0.0), 1),
    }


def _page(look: dict[str, Any]) -> Group:
    known, total = _known(look), look["recipients"]
    limits = [_pressure(limit) for limit in look["limits"] if limit["used"] is not None]
    # A bar by itself would have the next line beside it.
    bar = Table.grid()
    bar.add_row(ProgressBar(total=max(1, total), completed=known, width=60))
    return Group(
        Text(_standing(look)),
        bar,
        Text(_progress(look)),
        Text(_outcome(look)),
        Text("; ".join(limits), style="dim"),
    )


def _progress(look: dict[str, Any]) -> str:
    left = look["seconds_left"]
    eta = (
        tr(", {minutes}:{seconds:02} to go", minutes=left // 60, seconds=left % 60)
        if left is not None
        else ""
    )
    return tr(
        "{known:,} of {total:,} people, {rate:,.0f} a second{eta}",
        known=_known(look),
        total=look["recipients"],
        rate=look["rate"],
        eta=eta,
    )


def _outcome(look: dict[str, Any]) -> str:
    return tr(
        "{accepted:,} accepted, {left_out:,} left out, {failed:,} failed; {calls:,} calls, "
        "{throttles:,} throttled",
        **look,
    )


def _pressure(limit: dict[str, Any]) -> str:
    pressure = tr("{unit} {used:.0%} used", unit=tr(limit["unit"]), used=limit["used"])
    if limit["parked_seconds"]:
        pressure += tr(
            ", jobs wait up to {parked_seconds:,.0f} s", parked_seconds=limit["parked_seconds"]
        )
    return f"{pressure} ({translated(limit['paused'])})" if limit["paused"] else pressure
