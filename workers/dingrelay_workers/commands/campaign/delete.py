"""``dingrelay campaign delete``: a campaign that has ended, with its people and its report."""

import asyncio
import sys
from typing import TYPE_CHECKING

import typer

from dingrelay_producers.cli.output import print_result
from dingrelay_producers.language import tr
from dingrelay_workers.commands.campaign.follow_up import Yes
from dingrelay_workers.commands.campaign.run import Id

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.removal import Deletable


def delete(campaign: Id, yes: Yes = False) -> None:
    """Delete a campaign that has ended, with its people and its report. It can't be undone.

    What DingTalk's limits of the day need stays. If it is broken off, the workers finish it.
    """
    if not yes:
        found = asyncio.run(_look(campaign))
        if not sys.stdin.isatty():
            raise typer.BadParameter(
                tr("needed to delete a campaign to {people:,} people", people=found.recipients),
                param_hint="--yes",
            )
        typer.confirm(
            tr(
                "Delete {name} to {people:,} people, and its report? What it sent can't be recalled then",
                name=found.name,
                people=found.recipients,
            ),
            abort=True,
            err=True,
        )
    asyncio.run(_delete(campaign))
    print_result(
        {"id": campaign, "state": "deleted"}, lambda: tr("{campaign} is deleted", campaign=campaign)
    )


async def _look(campaign: str) -> "Deletable":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import removal
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(Settings.load()) as store:
        return await removal.look(store.database, campaign)


async def _delete(campaign: str) -> None:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import removal
    from dingrelay_workers.campaigns.opened import opened_store
    from dingrelay_workers.commands.campaign.progress import counting

    async with opened_store(Settings.load()) as store:
        await removal.hide(store.database, campaign)
        with counting(tr("rows deleted")) as count:
            await removal.remove(store.database, campaign, count)
