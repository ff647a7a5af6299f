"""``dingrelay queue``: what waits, for how long, and when it will be through."""

import asyncio
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.language import tr

if TYPE_CHECKING:
    from datetime import datetime

    from dingrelay_producers.cli.cells_away import CellsAway
    from dingrelay_workers.backlog.estimate import Backlog
    from dingrelay_workers.backlog.tally import Group, Tally


class By(StrEnum):
    """What distinguishes the jobs of a lane."""

    KIND = "kind"
    SENDER = "sender"


def queue(
    app: Annotated[str, typer.Option("--app", help="Only of this DingTalk application.")] = "",
    by: Annotated[By | None, typer.Option("--by", help="Tell the jobs of a lane apart.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how many jobs wait, for how long, and when they will be through."""
    from dingrelay_producers.cli.cells_away import cells_away
    from dingrelay_producers.settings import Settings

    with cells_away() as away:
        _show(*asyncio.run(_read(Settings.load(), app, away)), app, by, as_json=as_json)


def _show(
    tally: "Tally", lanes: "list[Backlog]", app: str, by: By | None, *, as_json: bool
) -> None:
    from dingrelay_producers.cli.output import print_json

    lanes = [each for each in lanes if app in {"", each.jobs.app}]
    groups = [each for each in tally.groups if app in {"", each.app}]
    if as_json:
        print_json(_document(tally, lanes, groups))
    elif by is None:
        _print_lanes(tally, lanes)
    else:
        _print_groups(tally, _merged(groups, by), by)


async def _read(settings: Any, app: str, away: "CellsAway") -> "tuple[Tally, list[Backlog]]":
    from dingrelay_producers.cells.answers import ask
    from dingrelay_producers.cells.cells import Cells
    from dingrelay_workers import preflight
    from dingrelay_workers.backlog import overview
    from dingrelay_workers.backlog.tally import together
    from dingrelay_workers.limiter.rules import Rules
    from dingrelay_workers.store.connections import impatient_redis

    preflight.check(settings)
    rules = Rules.from_settings(settings.rules, settings.egress)

    async def of_cell(own: Any) -> "tuple[Tally, list[Backlog]]":
        async with impatient_redis(own) as redis:
            return await overview.read(redis, rules)

    cells = Cells(settings, lambda own: own)
    asked = {cells.name_of(app): cells.of(app)} if app else cells.among()
    tallies, lanes = zip(*(await ask(asked, of_cell)).available(away), strict=True)
    found = sorted(chain.from_iterable(lanes), key=lambda each: each.jobs.app)
    return together(tallies), found


def _print_lanes(tally: "Tally", lanes: "list[Backlog]") -> None:
    from dingrelay_producers.cli.table import Column, print_table

    columns = (
        Column("app"),
        Column("lane"),
        *_counts(),
        Column("oldest", right=True),
        Column("through in", right=True),
    )
    rows = [
        [
            each.jobs.app,
            each.jobs.lane,
            *_numbers(each.jobs),
            _age(each.jobs, tally.now),
            _drain(each),
        ]
        for each in lanes
    ]
    print_table(columns, rows)
    _note(tally)


def _print_groups(tally: "Tally", groups: "list[Group]", by: By) -> None:
    from dingrelay_producers.cli.table import Column, print_table

    columns = (
        Column("app"),
        Column("lane"),
        Column("kind") if by is By.KIND else Column("sender"),
        *_counts(),
        Column("oldest", right=True),
    )
    rows = [
        [each.app, each.lane, getattr(each, by) or "-", *_numbers(each), _age(each, tally.now)]
        for each in groups
    ]
    print_table(columns, rows)
    _note(tally)


def _counts() -> list[Any]:
    from dingrelay_producers.cli.table import Column

    return [
        Column("waiting", right=True),
        Column("parked", rank=2, right=True),
        Column("snoozed", rank=2, right=True),
        Column("retrying", rank=3, right=True),
        Column("scheduled", rank=1, right=True),
        Column("running", rank=1, right=True),
    ]


def _numbers(group: "Group") -> list[str]:
    counts = (
        group.waiting,
        group.parked,
        group.snoozed,
        group.retrying,
        group.scheduled,
        group.running,
    )
    return [f"{count:,}" for count in counts]


def _merged(groups: "list[Group]", by: By) -> "list[Group]":
    """The groups of each lane that have one thing in common, the largest first."""
    from dingrelay_workers.backlog.tally import Group

    found: dict[tuple[str, str, str], Group] = {}
    for group in groups:
        name = (group.app, group.lane, getattr(group, by))
        kind, sender = (name[2], "") if by is By.KIND else ("", name[2])
        found.setdefault(name, Group(group.app, group.lane, kind, sender, "")).add(group)
    return sorted(found.values(), key=lambda each: (each.app, each.lane, -each.waiting))


def _age(group: "Group", now: "datetime") -> str:
    from dingrelay_producers.cli.output import length

    return length((now - group.since).total_seconds()) if group.since else ""


def _drain(backlog: "Backlog") -> str:
    from dingrelay_producers.cli.output import length

    if not backlog.jobs.waiting:
        return ""
    match backlog.held_by:
        case "worker":
            return tr("no worker")
        case "outage":
            return tr("an outage")
        case _ if backlog.drain_seconds is None:
            return tr("no limit")
        case _:
            return length(max(1.0, backlog.drain_seconds))


def _note(tally: "Tally") -> None:
    from dingrelay_producers.cli.output import console

    if not tally.exact:
        text = tr("projected from a sample: too many jobs wait to count each")
        console(stderr=True).print(text, style="dim")


def _document(tally: "Tally", lanes: "list[Backlog]", groups: "list[Group]") -> dict[str, Any]:
    from dingrelay_workers.backlog.overview import STATES

    def counts(group: "Group") -> dict[str, Any]:
        oldest = (tally.now - group.since).total_seconds() if group.since else None
        numbers = {state: getattr(group, state) for state in STATES}
        return {"waiting": group.waiting, **numbers, "oldest_seconds": oldest}

    return {
        "exact": tally.exact,
        "lanes": [
            {
                "app": each.jobs.app,
                "lane": each.jobs.lane,
                **counts(each.jobs),
                "drain_seconds": each.drain_seconds,
                "held_by": each.held_by,
            }
            for each in lanes
        ],
        "groups": [
            {
                "app": each.app,
                "lane": each.lane,
                "kind": each.kind,
                "sender": each.sender,
                **counts(each),
            }
            for each in groups
        ],
    }
