"""``dingrelay campaign list``: the latest campaigns."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options as common

if TYPE_CHECKING:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.models import CampaignRow


def list_(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the latest.")
    ] = 50,
    app: Annotated[str | None, typer.Option(help="Only those of this application.")] = None,
    as_json: common.AsJson = False,
) -> None:
    """List campaigns, latest first."""
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.cli.output import console, local, print_json
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents

    rows = asyncio.run(_read(Settings.load(), limit, app))
    if as_json:
        print_json([documents.campaign(row) for row in rows])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("state", "id", "app", "created"):
        table.add_column(title, no_wrap=True)
    table.add_column("people", justify="right")
    table.add_column("calls", justify="right")
    table.add_column("name", overflow="ellipsis", no_wrap=True)
    for row in rows:
        people, calls = f"{row.recipients:,}", f"{row.settled:,}/{row.chunks:,}"
        created = local(row.created_at)
        table.add_row(row.state, row.id, row.app, created, people, calls, Text(row.name))
    if rows:
        console().print(table)
    else:
        console(stderr=True).print("none", style="dim")


async def _read(settings: "Settings", limit: int, app: str | None) -> "Sequence[CampaignRow]":
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(settings) as store:
        return await store.list(limit=limit, app=app)
