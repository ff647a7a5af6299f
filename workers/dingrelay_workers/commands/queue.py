"""``dingrelay queue``: what waits, for how long, and when it will be through."""

import asyncio
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.output import Column, console, length, print_result, print_table
from dingrelay_producers.language import tr

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.backlog.estimate import Backlog
    from dingrelay_workers.backlog.tally import Group, Tally


class By(StrEnum):
    """The columns that distinguish the jobs of a lane."""

    KIND = "kind"
    SENDER = "sender"


def queue(
    app: Annotated[str, typer.Option("--app", help="Only of this DingTalk application.")] = "",
    by: Annotated[By | None, typer.Option("--by", help="Tell the jobs of a lane apart.")] = None,
) -> None:
    """Show how many jobs wait, for how long, and when they will be through."""
    from dingrelay_producers.settings import Settings

    settings = Settings.load().of_app(app or None)
    _show(*asyncio.run(_read(settings)), app, by)


def _show(tally: "Tally", lanes: "list[Backlog]", app: str, by: By | None) -> None:
    lanes = [each for each in lanes if app in {"", each.jobs.app}]
    groups = [each for each in tally.groups if app in {"", each.app}]
    print_result(
        _document(tally, lanes, groups),
        lambda: (
            _print_lanes(tally, lanes)
            if by is None
            else _print_groups(tally, _merged(groups, by), by)
        ),
    )


async def _read(settings: "Settings") -> "tuple[Tally, list[Backlog]]":
    from dingrelay_workers import preflight
    from dingrelay_workers.backlog import estimate
    from dingrelay_workers.limiter.rules import Rules
    from dingrelay_workers.store.connections import impatient_redis

    preflight.check(settings)
    rules = Rules.from_settings(settings.rules, settings.egress)
    async with impatient_redis(settings) as redis:
        return await estimate.read(redis, rules)


def _print_lanes(tally: "Tally", lanes: "list[Backlog]") -> None:
    print_table(
        lanes,
        Column("app", lambda each: each.jobs.app),
        Column("lane", lambda each: each.jobs.lane),
        *_counts(attrgetter("jobs")),
        Column("oldest", lambda each: _age(each.jobs, tally.now), right=True),
        Column("through in", _drain, right=True),
    )
    _note(tally)


def _print_groups(tally: "Tally", groups: "list[Group]", by: By) -> None:
    print_table(
        groups,
        Column("app", lambda each: each.app),
        Column("lane", lambda each: each.lane),
        Column("kind" if by is By.KIND else "sender", lambda each: getattr(each, by) or "-"),
        *_counts(lambda each: each),
        Column("oldest", lambda each: _age(each, tally.now), right=True),
    )
    _note(tally)


def _counts(jobs: "Callable[[Any], Group]") -> list[Any]:
    return [
        Column("waiting", lambda row: f"{jobs(row).waiting:,}", right=True),
        Column("parked", lambda row: f"{jobs(row).parked:,}", rank=2, right=True),
        Column("snoozed", lambda row: f"{jobs(row).snoozed:,}", rank=2, right=True),
        Column("retrying", lambda row: f"{jobs(row).retrying:,}", rank=3, right=True),
        Column("scheduled", lambda row: f"{jobs(row).scheduled:,}", rank=1, right=True),
        Column("running", lambda row: f"{jobs(row).running:,}", rank=1, right=True),
    ]


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
    return length((now - group.since).total_seconds()) if group.since else ""


def _drain(backlog: "Backlog") -> str:
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
    if not tally.exact:
        text = tr("projected from a sample: too many jobs wait to count each")
        console(stderr=True).print(text, style="dim")


def _document(tally: "Tally", lanes: "list[Backlog]", groups: "list[Group]") -> dict[str, Any]:
    from dingrelay_workers.backlog.estimate import STATES

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
