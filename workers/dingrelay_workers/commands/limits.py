"""``dingrelay limits``: every bucket of the fleet, and the month's calls."""

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from dingrelay_producers.settings import Settings

LOOK_SECONDS = 1.0


def limits(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show how full the limits are: rates, pauses, outages, calls of the month."""
    from dingrelay_producers.settings import Settings

    asyncio.run(_show(Settings.load(), watch=watch, as_json=as_json))


async def _show(settings: "Settings", *, watch: bool, as_json: bool) -> None:
    from rich.live import Live

    from dingrelay_producers.cli.output import console, print_json

    if as_json:
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


def _page(read: dict[str, Any]) -> "Group":
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("scope", no_wrap=True)
    table.add_column("api", no_wrap=True)
    for title in ("limit", "rate/s", "ceiling", "free", "throttled", "level"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("now")
    for bucket in read["buckets"]:
        limit = f"{bucket['limit']}/{bucket['window']:g}s" if bucket["limit"] else "none"
        table.add_row(
            bucket["scope"],
            bucket["api"],
            f"{limit} {bucket['unit']}",
            f"{bucket['rate']:.2f}" if bucket["limit"] else "",
            f"{bucket['ceiling']:.2f}" if bucket["ceiling"] else "",
            f"{bucket['balance']:.1f}" if bucket["limit"] else "",
            str(bucket["throttles"]),
            str(bucket["level"]),
            _now(bucket),
        )
    months = [
        Text(f"{row['organisation']}: {row['used']} of {row['limit'] or 'any'} calls this month")
        for row in read["quota"]
    ]
    nothing = Text("no bucket is in use", style="dim")
    outages = [Text(_outage(row), style="red") for row in read["outages"]]
    return Group(table if table.row_count else nothing, Text(), *outages, *months)


def _outage(row: dict[str, Any]) -> str:
    """One line for an API or a host that is out, or an app that is held."""
    since = f"since {datetime.fromisoformat(row['opened_at']):%H:%M:%S} UTC"
    tries = f"next try at {datetime.fromisoformat(row['next_probe']):%H:%M:%S}"
    kind, _, name = row["scope"].partition(":")
    what = f"app {name} is held" if kind == "hold" else f"{row['name']} ({row['scope']}) is out"
    return f"{what} {since}, {tries}: {row['reason']}"


def _now(bucket: dict[str, Any]) -> Any:
    from rich.text import Text

    def left(name: str) -> float:
        until = datetime.fromisoformat(bucket[name])
        return max(0.0, (until - datetime.now(UTC)).total_seconds())

    news: list[Text] = []
    if bucket["paused_until"]:
        text = f"paused for {left('paused_until'):.1f} s: {bucket['reason']}"
        news.append(Text(text, style="red"))
    if bucket["horizon"]:
        news.append(Text(f"jobs are parked for {left('horizon'):.0f} s", style="yellow"))
    return Text(", ").join(news) if news else Text("open", style="green")
