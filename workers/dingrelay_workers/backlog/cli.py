"""``dingrelay queue`` and ``dingrelay limits``: what waits, for how long, what for, and for which workers."""

import asyncio
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group as Lines
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import Column, as_json, console, print_result, print_table
from dingrelay_producers.cli.shared import takes, value_of
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.time_spans import length
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.lanes import Pause
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.backlog.documents import WorkerList
    from dingrelay_workers.backlog.estimate import BacklogGroup, Tally
    from dingrelay_workers.limiter.breakers import BreakerState
    from dingrelay_workers.limiter.buckets import BucketState
    from dingrelay_workers.limiter.overview import FleetLimits, PublishedRules

LOOK_SECONDS = 1.0
"""Between two looks of `limits --watch`."""


_COUNTS: "list[Column[BacklogGroup]]" = [
    Column("waiting", lambda row: f"{row.waiting:,}", right=True),
    Column("parked", lambda row: f"{row.parked:,}", rank=2, right=True),
    Column("paused", lambda row: f"{row.paused:,}", rank=2, right=True),
    Column("snoozed", lambda row: f"{row.snoozed:,}", rank=2, right=True),
    Column("retrying", lambda row: f"{row.retrying:,}", rank=3, right=True),
    Column("scheduled", lambda row: f"{row.scheduled:,}", rank=1, right=True),
    Column("running", lambda row: f"{row.running:,}", rank=1, right=True),
]


class By(StrEnum):
    """The columns that distinguish the jobs of a lane, and who carries them out."""

    KIND = "kind"
    SENDER = "sender"
    WORKER = "worker"


@takes("app")
def queue(
    by: Annotated[
        By | None,
        typer.Option(
            "--by", help="Tell the jobs of a lane apart, or list the workers with their lanes."
        ),
    ] = None,
) -> None:
    """Show how many jobs wait, for how long, and when they will be through."""
    from dingrelay_producers.settings import Settings

    settings = Settings.load()
    if by is By.WORKER:
        workers = asyncio.run(_read_workers(settings))
        print_result(workers, lambda: _print_workers(workers))
        return
    _show(*asyncio.run(_read(settings)), value_of("app"), by)


def _show(
    tally: "Tally",
    lanes: "list[BacklogGroup]",
    pauses: "list[Pause]",
    app: str | None,
    by: By | None,
) -> None:
    from dingrelay_workers.backlog.documents import QueueDocument

    pauses = [pause for pause in pauses if app in {None, pause.app}]
    lanes = [lane for lane in lanes if app in {None, lane.app}]
    groups = [group for group in tally.groups if app in {None, group.app}]
    print_result(
        QueueDocument.of(replace(tally, groups=groups), lanes, pauses).model_dump(mode="json"),
        lambda: (
            _print_lanes(tally, lanes, pauses)
            if by is None
            else _print_groups(tally, _merged(groups, by), by)
        ),
    )


async def _read(settings: "Settings") -> "tuple[Tally, list[BacklogGroup], list[Pause]]":
    from dingrelay_workers import preflight
    from dingrelay_workers.backlog import estimate
    from dingrelay_workers.limiter.overview import read_pace
    from dingrelay_workers.store.connections import impatient_redis

    preflight.check(settings)
    async with impatient_redis(settings) as redis:
        tally, lanes = await estimate.read(redis, await read_pace(redis, settings))
        return tally, lanes, await estimate.read_pauses(redis)


def _print_lanes(tally: "Tally", lanes: "list[BacklogGroup]", pauses: "list[Pause]") -> None:
    print_table(
        lanes,
        Column("app", lambda lane: lane.app),
        Column("lane", lambda lane: lane.lane),
        *_COUNTS,
        Column("oldest", lambda lane: _age(lane, tally.now), right=True),
        Column("through in", _drain, right=True),
        empty=tr("no job waits"),
    )
    for pause in pauses:
        text = tr(
            "{name} is paused by {by} until {moment}",
            name=pause.id,
            by=pause.by,
            moment=local(pause.until),
        )
        text += f": {pause.reason}" if pause.reason else ""
        console(stderr=True).print(text, style="yellow")
    _note(tally)


def _print_groups(tally: "Tally", groups: "list[BacklogGroup]", by: By) -> None:
    print_table(
        groups,
        Column("app", lambda group: group.app),
        Column("lane", lambda group: group.lane),
        Column("kind" if by is By.KIND else "sender", lambda group: getattr(group, by) or "-"),
        *_COUNTS,
        Column("oldest", lambda group: _age(group, tally.now), right=True),
        empty=tr("no job waits"),
    )
    _note(tally)


def _merged(groups: "list[BacklogGroup]", by: By) -> "list[BacklogGroup]":
    """The groups of each lane that have one thing in common, the largest first."""
    from dingrelay_workers.backlog.estimate import BacklogGroup

    merged_groups: dict[tuple[str, str, str], BacklogGroup] = {}
    for group in groups:
        name = (group.app, group.lane, getattr(group, by))
        kind, sender = (name[2], "") if by is By.KIND else ("", name[2])
        merged_groups.setdefault(name, BacklogGroup(group.app, group.lane, kind, sender, "")).add(
            group
        )
    return sorted(merged_groups.values(), key=lambda group: (group.app, group.lane, -group.waiting))


def _age(group: "BacklogGroup", now: "datetime") -> str:
    return length((now - group.since).total_seconds()) if group.since else ""


def _drain(backlog: "BacklogGroup") -> str:
    if not backlog.waiting:
        return ""
    match backlog.held_by:
        case "worker":
            return tr("no worker")
        case "pause":
            return tr("paused")
        case "outage":
            return tr("an outage")
        case _ if backlog.drain_seconds is None:
            return tr("no limit")
        case _:
            return length(max(1.0, backlog.drain_seconds))


def _note(tally: "Tally") -> None:
    if not tally.exact:
        text = tr("projected from a sample: too many jobs wait to count each")
        console(stderr=True).print(text, style="dim")


async def _read_workers(settings: "Settings") -> "WorkerList":
    from dingrelay_workers import preflight
    from dingrelay_workers.backlog import workers as fleet
    from dingrelay_workers.store.connections import impatient_redis

    preflight.check(settings)
    async with impatient_redis(settings) as redis:
        return await fleet.read(redis)


def _print_workers(worker_list: "WorkerList") -> None:
    print_table(
        worker_list.workers,
        Column("name", lambda worker: worker.name),
        Column("version", lambda worker: worker.version, rank=2),
        Column("lanes", lambda worker: " ".join(worker.lanes), rank=1),
        Column("running", lambda worker: str(worker.running or 0), rank=3, right=True),
        Column(
            "started", lambda worker: local(worker.started_at) if worker.started_at else "", rank=5
        ),
        Column(
            "latest sign", lambda worker: local(worker.seen_at) if worker.seen_at else "", rank=4
        ),
    )
    if missing := [lane.name for lane in worker_list.lanes if not lane.served]:
        text = tr("no worker serves {lanes}", lanes=", ".join(missing))
        console(stderr=True).print(text, style="red")


def limits(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
) -> None:
    """Show how full the limits are: rates, pauses, outages, calls of the month."""
    from dingrelay_producers.settings import Settings

    asyncio.run(_show_limits(Settings.load(), watch=watch))


async def _show_limits(settings: "Settings", *, watch: bool) -> None:
    if as_json.get() or not watch:
        _print_limits(await _read_limits(settings))
        while watch:
            await asyncio.sleep(LOOK_SECONDS)
            _print_limits(await _read_limits(settings))
        return
    with Live(console=console(), auto_refresh=False) as live:
        while True:
            live.update(_limits_page(await _read_limits(settings)), refresh=True)
            await asyncio.sleep(LOOK_SECONDS)


def _print_limits(limits: "FleetLimits") -> None:
    print_result(limits, lambda: _limits_page(limits))


async def _read_limits(settings: "Settings") -> "FleetLimits":
    """Buckets and quota.

    Raises:
        ServiceUnavailable: Redis cannot be reached.
        SettingsError: a rule in the settings can't be read.
    """
    from dingrelay_workers import preflight
    from dingrelay_workers.limiter import overview
    from dingrelay_workers.store.connections import impatient_redis

    preflight.check(settings)
    async with impatient_redis(settings) as redis:
        return await overview.read(redis, settings)


def _limits_page(limits: "FleetLimits") -> Lines:
    from dingrelay_workers.backlog.documents import counted
    from dingrelay_workers.dingtalk.apis import APIS
    from dingrelay_workers.limiter.rules import in_words

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(tr("scope"), no_wrap=True)
    table.add_column(tr("api"), no_wrap=True)
    for title in (
        tr("limit"),
        tr("rate/s"),
        tr("ceiling"),
        tr("free"),
        tr("throttled"),
        tr("level"),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column(tr("now"))
    out = {(outage.scope, outage.name) for outage in limits.outages}
    on_hosts = {api.name for api in APIS if api.dialect in {name for _, name in out}}
    for bucket in limits.buckets:
        limit = bucket.limit and translated(in_words(bucket.unit, bucket.limit, bucket.window))
        table.add_row(
            bucket.scope,
            bucket.api,
            limit or tr("no limit"),
            f"{bucket.rate:.2f}" if bucket.limit else "",
            f"{bucket.ceiling:.2f}" if bucket.ceiling else "",
            f"{bucket.balance:.1f}" if bucket.limit else "",
            str(bucket.throttles),
            str(bucket.level),
            _bucket_now(bucket, is_out=(bucket.scope, bucket.api) in out or bucket.api in on_hosts),
        )
    months = [
        Text(
            tr(
                "{organisation}: {used:,} {counted} this month, {limit}; about {expected:,} by its end",
                organisation=month.organisation,
                used=month.used,
                counted=counted(month.counts),
                limit=tr("of {limit:,}", limit=month.limit) if month.limit else tr("no limit"),
                expected=month.expected,
            )
        )
        for month in limits.quota
    ]
    nothing = Text(tr("no bucket is in use"), style="dim")
    outages = [Text(_outage(outage), style="red") for outage in limits.outages]
    notes = [Text(note, style="yellow") for note in _rules_notes(limits.rules)]
    return Lines(table if table.row_count else nothing, Text(), *outages, *notes, *months)


def _rules_notes(rules: "PublishedRules") -> list[str]:
    """Notes on the origin of the rules, where that is not plain."""
    if not rules.workers:
        return [tr("no worker runs: these are the rules of the settings here")]
    return [
        tr(
            "workers differ: {rule} is {limits}",
            rule=f"{difference.api} {difference.unit}",
            limits=", ".join(
                tr("{limit} in {workers}", limit=limit or tr("none"), workers=", ".join(workers))
                for limit, workers in difference.limits.items()
            ),
        )
        for difference in rules.differences
    ]


def _outage(breaker: "BreakerState") -> str:
    """One line for an API or a host that is out, or an app that is held."""
    since = tr("since {moment}", moment=local(breaker.opened_at))
    tries = tr("next try at {moment}", moment=local(breaker.next_probe))
    kind, _, name = breaker.scope.partition(":")
    what = (
        tr("app {name} is held", name=name)
        if kind == "hold"
        else tr("{name} ({scope}) is out", name=breaker.name, scope=breaker.scope)
    )
    return f"{what} {since}, {tries}: {translated(breaker.reason)}"


def _bucket_now(bucket: "BucketState", *, is_out: bool) -> Text:
    def left(until: datetime) -> float:
        return max(0.0, (until - clock.now()).total_seconds())

    news = [Text(tr("an outage"), style="red")] if is_out else []
    if bucket.paused_until:
        text = tr(
            "paused for {length}: {reason}",
            length=length(left(bucket.paused_until)),
            reason=translated(bucket.reason),
        )
        news.append(Text(text, style="red"))
    if bucket.waiting and bucket.horizon:
        text = tr(
            "{count} jobs wait, for {length}",
            count=f"{bucket.waiting:,}",
            length=length(left(bucket.horizon)),
        )
        news.append(Text(text, style="yellow"))
    return Text(", ").join(news) if news else Text(tr("open"), style="green")
