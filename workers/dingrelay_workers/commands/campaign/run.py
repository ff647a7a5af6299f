"""``dingrelay campaign start|pause|resume|cancel``: the state of a campaign."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from dingrelay_producers.cli.output import print_result
from dingrelay_producers.language import tr
from dingrelay_workers.commands.campaign.preview import cost_page

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.control import Control
    from dingrelay_workers.campaigns.estimate import DryRun

Id = Annotated[str, typer.Argument(metavar="ID", help="The campaign's id.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the group."""
    app.command("start")(start)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("cancel")(cancel)


def start(
    campaign: Id,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what it takes and would send.")
    ] = False,
) -> None:
    """Let a draft run."""
    if dry_run:
        _dry_run(campaign)
        return
    _move(campaign, lambda control: control.start(campaign), "running")


def pause(campaign: Id) -> None:
    """Hold a campaign; no call of it leaves two seconds later."""
    _move(campaign, lambda control: control.pause(campaign), "paused")


def resume(campaign: Id) -> None:
    """Let a paused campaign run on."""
    _move(campaign, lambda control: control.resume(campaign), "running")


def cancel(campaign: Id) -> None:
    """End a campaign for good: whoever has not been called will not be."""
    _move(campaign, lambda control: control.cancel(campaign), "cancelled")


def _dry_run(campaign: str) -> None:
    cost, found = asyncio.run(_dry_run_of(campaign))
    first = [{"users": users, "message": message} for users, message in found.first]
    document = {**cost, "recipients": found.recipients, "calls": found.calls}
    print_result({"id": campaign, **document, "first": first}, lambda: _page(cost, found))


def _page(cost: dict[str, Any], found: "DryRun") -> Group:
    lines: list[RenderableType] = [
        tr(
            "would send to {recipients:,} people in {calls:,} calls",
            recipients=found.recipients,
            calls=found.calls,
        )
    ]
    for users, message in found.first:
        text = json.dumps(message, ensure_ascii=False)
        others = tr(" and {number} more", number=len(users) - 1) if len(users) > 1 else ""
        lines.append(Text(f"{users[0]}{others}: {text}"))
    return Group(cost_page(cost), *lines)


async def _dry_run_of(campaign: str) -> "tuple[dict[str, Any], DryRun]":
    """The cost of a campaign, and its calls."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns import documents, estimate
    from dingrelay_workers.campaigns.opened import opened_store

    own = Settings.load()
    async with opened_store(own) as store:
        found = await estimate.dry_run(store, campaign)
        return documents.preview(await estimate.of_draft(own, store, campaign)), found


def _move(campaign: str, act: "Callable[[Control], Awaitable[None]]", state: str) -> None:
    asyncio.run(_acted(campaign, act))
    print_result(
        {"id": campaign, "state": state},
        lambda: tr("{campaign} is {state}", campaign=campaign, state=state),
    )


async def _acted(campaign: str, act: "Callable[[Control], Awaitable[None]]") -> None:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.control import Control
    from dingrelay_workers.campaigns.opened import opened_services

    own = Settings.load()
    async with opened_services(own) as (database, redis):
        await act(Control(database, redis))
