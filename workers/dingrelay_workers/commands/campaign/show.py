"""``dingrelay campaign show``: one campaign as it stands."""

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from dingrelay_producers.cli.output import grid_of_fields, print_result
from dingrelay_producers.language import tr, translated
from dingrelay_producers.zone import local
from dingrelay_workers.commands.campaign.watch import watch

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.models import CampaignRow


def show(
    campaign: Annotated[str, typer.Argument(metavar="ID", help="The campaign's id.")],
    follow: Annotated[
        bool,
        typer.Option(
            "--watch",
            "-w",
            help="How far and how fast it is until it ends; as JSON a line a second.",
        ),
    ] = False,
) -> None:
    """Show one campaign: what it sends, how, and how far it has come."""
    if follow:
        asyncio.run(watch(campaign))
        return
    from dingrelay_workers.campaigns import documents

    row = asyncio.run(_read(campaign))
    print_result(documents.campaign(row), lambda: _page(row))


async def _read(campaign: str) -> "CampaignRow":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(Settings.load()) as store:
        return await store.get(campaign)


def _page(row: "CampaignRow") -> Table:
    grid = grid_of_fields()
    grid.add_row(tr("state"), Text(f"{row.state} {translated(row.reason)}".strip()))
    grid.add_row("id", row.id)
    grid.add_row(tr("name"), Text(row.name))
    grid.add_row(tr("app"), row.app)
    grid.add_row(tr("message"), Text(json.dumps(row.message, ensure_ascii=False)))
    grid.add_row(tr("people"), f"{row.recipients:,}")
    grid.add_row(
        tr("left out"),
        tr(
            "{duplicates:,} duplicates, {malformed:,} malformed rows",
            duplicates=row.duplicates,
            malformed=row.malformed,
        ),
    )
    grid.add_row(
        tr("calls"),
        tr(
            "{settled:,} of {chunks:,} have ended, {calls:,} were taken",
            settled=row.settled,
            chunks=row.chunks,
            calls=row.calls,
        ),
    )
    grid.add_row(
        tr("so far"),
        tr(
            "{accepted:,} accepted, {left_out:,} left out, {failed:,} failed",
            accepted=row.accepted,
            left_out=row.left_out,
            failed=row.failed,
        ),
    )
    rate = (
        tr("{rate:,} recipients a minute at most", rate=row.rate)
        if row.rate
        else tr("at DingTalk's limits")
    )
    quiet = tr(", quiet {quiet} in Beijing", quiet=row.quiet) if row.quiet else ""
    grid.add_row(
        tr("pace"), tr("{rate}{quiet}, weight {weight}", rate=rate, quiet=quiet, weight=row.weight)
    )
    grid.add_row(tr("pauses at"), tr("{error_share:.0%} failed", error_share=row.error_share))
    for title, moment in (
        ("created", row.created_at),
        ("not before", row.start_at),
        ("started", row.started_at),
        ("ended", row.ended_at),
    ):
        if moment is not None:
            grid.add_row(tr(title), local(moment))
    return grid
