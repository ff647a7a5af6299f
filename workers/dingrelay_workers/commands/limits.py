"""``dingrelay limits``: every bucket of the fleet, and the month's calls."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import as_json, console, length, print_json
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.settings import Settings

LOOK_SECONDS = 1.0


def limits(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
) -> None:
    """Show how full the limits are: rates, pauses, outages, calls of the month."""
    from dingrelay_producers.settings import Settings

    asyncio.run(_show(Settings.load(), watch=watch))


async def _show(settings: "Settings", *, watch: bool) -> None:
    if as_json.get():
        print_json(await _read(settings))
        while watch:
            await asyncio.sleep(LOOK_SECONDS)
            print_json(await _read(settings))
    elif not watch:
        console().print(_page(await _read(settings)))
    else:
        with Live(console=console(), auto_refresh=False) as live:
            while True:
                live.update(_page(await _read(settings)), refresh=True)
                await asyncio.sleep(LOOK_SECONDS)


async def _read(settings: "Settings") -> dict[str, Any]:
    """Buckets and quota as JSON values.

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


def _page(read: dict[str, Any]) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(tr("scope"), no_wrap=True)
    table.add_column(tr("api"), no_wrap=True)
    for title in ("limit", "rate/s", "ceiling", "free", "throttled", "level"):
        table.add_column(tr(title), justify="right", no_wrap=True)
    table.add_column(tr("now"))
    for bucket in read["buckets"]:
        limit = f"{bucket['limit']}/{bucket['window']:g}s" if bucket["limit"] else tr("none")
        table.add_row(
            bucket["scope"],
            bucket["api"],
            f"{limit} {tr(bucket['unit'])}",
            f"{bucket['rate']:.2f}" if bucket["limit"] else "",
            f"{bucket['ceiling']:.2f}" if bucket["ceiling"] else "",
            f"{bucket['balance']:.1f}" if bucket["limit"] else "",
            str(bucket["throttles"]),
            str(bucket["level"]),
            _now(bucket),
        )
    months = [
        Text(
            tr(
                "{organisation}: {used} of {limit} calls this month",
                organisation=row["organisation"],
                used=row["used"],
                limit=row["limit"] or tr("any"),
            )
        )
        for row in read["quota"]
    ]
    nothing = Text(tr("no bucket is in use"), style="dim")
    outages = [Text(_outage(row), style="red") for row in read["outages"]]
    notes = [Text(each, style="yellow") for each in _notes(read["rules"])]
    return Group(table if table.row_count else nothing, Text(), *outages, *notes, *months)


def _notes(rules: dict[str, Any]) -> list[str]:
    """Whose rules are shown, where that is not plain."""
    if not rules["workers"]:
        return [tr("no worker runs: these are the rules of the settings here")]
    return [
        tr(
            "workers differ: {rule} is {limits}",
            rule=f"{each['api']} {each['unit']}",
            limits=", ".join(
                tr("{limit} in {workers}", limit=limit or tr("none"), workers=", ".join(workers))
                for limit, workers in each["limits"].items()
            ),
        )
        for each in rules["differences"]
    ]


def _outage(row: dict[str, Any]) -> str:
    """One line for an API or a host that is out, or an app that is held."""
    since = tr("since {moment}", moment=local(datetime.fromisoformat(row["opened_at"])))
    tries = tr("next try at {moment}", moment=local(datetime.fromisoformat(row["next_probe"])))
    kind, _, name = row["scope"].partition(":")
    what = (
        tr("app {name} is held", name=name)
        if kind == "hold"
        else tr("{name} ({scope}) is out", name=row["name"], scope=row["scope"])
    )
    return f"{what} {since}, {tries}: {translated(row['reason'])}"


def _now(bucket: dict[str, Any]) -> Any:
    def left(name: str) -> float:
        until = datetime.fromisoformat(bucket[name])
        return max(0.0, (until - datetime.now(UTC)).total_seconds())

    news: list[Text] = []
    if bucket["paused_until"]:
        text = tr(
            "paused for {length}: {reason}",
            length=length(left("paused_until")),
            reason=translated(bucket["reason"]),
        )
        news.append(Text(text, style="red"))
    if bucket["waiting"]:
        text = tr(
            "{count} jobs wait, for {length}",
            count=f"{bucket['waiting']:,}",
            length=length(left("horizon")),
        )
        news.append(Text(text, style="yellow"))
    return Text(", ").join(news) if news else Text(tr("open"), style="green")
