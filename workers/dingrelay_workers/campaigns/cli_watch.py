"""``dingrelay campaign show --watch``: how far a campaign is, how fast, and what holds it up."""

import asyncio
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import as_json, console, print_json
from dingrelay_producers.language import tr, translated

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.store import CampaignStore
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
    state = ": ".join(filter(None, (look["state"], translated(look["reason"]))))
    return f"{state}, {_progress(look)}; {_outcome(look)}"


async def _looks(settings: "Settings", campaign: str) -> AsyncGenerator[dict[str, Any], None]:
    """A look a second, and the last one once the campaign has ended.

    Raises:
        CampaignNotFound: there is none with this id.
        ServiceUnavailable: the database or Redis can't be used.
        SettingsError: a rule in the settings can't be read.
    """
    from dingrelay_workers.campaigns.service import opened_store
    from dingrelay_workers.store.connections import impatient_redis

    rate, before, at = 0.0, None, time.monotonic()
    async with opened_store(settings) as store, impatient_redis(settings) as redis:
        while True:
            look = await _look(store, redis, settings, campaign)
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
    store: "CampaignStore", redis: "Redis", settings: "Settings", campaign: str
) -> dict[str, Any]:
    from dingrelay_workers.limiter import buckets, fleet_rules
    from dingrelay_workers.limiter.rules import Rules

    row = await store.get(campaign)
    rules = await fleet_rules.read(redis, Rules.from_settings(settings.rules, settings.egress))
    states = [
        state
        for state in await buckets.read_buckets(redis, rules)
        if state.scope == f"app:{row.app}" and state.api == API
    ]
    names = ("state", "reason", "app", "recipients", "accepted", "left_out", "failed", "calls")
    return {
        "id": campaign,
        **{name: getattr(row, name) for name in names},
        "throttles": sum(state.throttles for state in states),
        "limits": [_limit(state) for state in states],
    }


def _limit(state: "BucketState") -> dict[str, Any]:
    """How much of a bucket is taken, from 0 to 1; None where there is no limit.

    `parked_seconds` is how long the last job that waits for it will have to.
    """
    from dingrelay_workers.limiter.rules import LARGEST_COST

    full = LARGEST_COST["recipients" if state.unit == "recipients" else "calls"]
    parked = state.horizon and (state.horizon - datetime.now(UTC)).total_seconds()
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
        Text(": ".join(filter(None, (look["state"], translated(look["reason"]))))),
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
        accepted=look["accepted"],
        left_out=look["left_out"],
        failed=look["failed"],
        calls=look["calls"],
        throttles=look["throttles"],
    )


def _pressure(limit: dict[str, Any]) -> str:
    pressure = tr("{unit} {used:.0%} used", unit=tr(limit["unit"]), used=limit["used"])
    if limit["parked_seconds"]:
        pressure += tr(
            ", jobs wait up to {parked_seconds:,.0f} s", parked_seconds=limit["parked_seconds"]
        )
    return f"{pressure} ({translated(limit['paused'])})" if limit["paused"] else pressure
