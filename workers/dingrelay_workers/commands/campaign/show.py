"""``dingrelay campaign show``: one campaign as it stands."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options as common

if TYPE_CHECKING:
    from rich.table import Table

    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.models import CampaignRow


def show(
    campaign: Annotated[str, typer.Argument(metavar="ID", help="The campaign's id.")],
    as_json: common.AsJson = False,
) -> None:
    """Show one campaign: what it sends, how, and how far it has come."""
    from dingrelay_producers.cli.output import console, print_json
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents

    row = asyncio.run(_read(Settings.load(), campaign))
    if as_json:
        print_json(documents.campaign(row))
    else:
        console().print(_page(row))


async def _read(settings: "Settings", campaign: str) -> "CampaignRow":
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(settings) as store:
        return await store.get(campaign)


def _page(row: "CampaignRow") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.cli.output import local

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("state", Text(f"{row.state} {row.reason}".strip()))
    grid.add_row("id", row.id)
    grid.add_row("name", Text(row.name))
    grid.add_row("app", row.app)
    grid.add_row("message", Text(json.dumps(row.message, ensure_ascii=False)))
    grid.add_row("people", f"{row.recipients:,}")
    grid.add_row("left out", f"{row.duplicates:,} duplicates, {row.malformed:,} malformed rows")
    grid.add_row("calls", f"{row.settled:,} of {row.chunks:,} have ended, {row.calls:,} were taken")
    grid.add_row(
        "so far", f"{row.accepted:,} accepted, {row.left_out:,} left out, {row.failed:,} failed"
    )
    rate = f"{row.rate:,} recipients a minute at most" if row.rate else "at DingTalk's limits"
    quiet = f", quiet {row.quiet} in Beijing" if row.quiet else ""
    grid.add_row("pace", f"{rate}{quiet}, weight {row.weight}")
    grid.add_row("pauses at", f"{row.error_share:.0%} failed")
    for title, moment in (
        ("created", row.created_at),
        ("not before", row.start_at),
        ("started", row.started_at),
        ("ended", row.ended_at),
    ):
        if moment is not None:
            grid.add_row(title, local(moment))
    return grid
