"""``dingrelay campaign list``: the latest campaigns."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options as common
from dingrelay_producers.cli.output import Column, print_result, print_table
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.models import CampaignRow


def list_(
    limit: common.Limit = 50,
    app: Annotated[str | None, typer.Option(help="Only those of this application.")] = None,
) -> None:
    """List campaigns, latest first."""
    from dingrelay_workers.campaigns import documents

    rows = asyncio.run(_read(limit, app))
    print_result([documents.campaign(row) for row in rows], lambda: _print(rows))


def _print(rows: "Sequence[CampaignRow]") -> None:
    print_table(
        rows,
        Column("state", lambda row: row.state),
        Column("id", lambda row: row.id),
        Column("app", lambda row: row.app, rank=4),
        Column("created", lambda row: local(row.created_at), rank=3),
        Column("people", lambda row: f"{row.recipients:,}", rank=1, right=True),
        Column("calls", lambda row: f"{row.settled:,}/{row.chunks:,}", rank=5, right=True),
        Column("name", lambda row: row.name, rank=2, cut=True),
    )


async def _read(limit: int, app: str | None) -> "Sequence[CampaignRow]":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(Settings.load().of_app(app)) as store:
        return await store.list(limit=limit, app=app)
