"""``dingrelay campaign start|pause|resume|cancel``: the state of a campaign."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import console, print_json
from dingrelay_producers.language import tr

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
        bool, typer.Option("--dry-run", help="Only tell what would be sent.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Let a draft run."""
    if dry_run:
        _dry_run(campaign, as_json=as_json)
        return
    _move(campaign, lambda control: control.start(campaign), "running", as_json=as_json)


def pause(campaign: Id, as_json: options.AsJson = False) -> None:
    """Hold a campaign; no call of it leaves two seconds later."""
    _move(campaign, lambda control: control.pause(campaign), "paused", as_json=as_json)


def resume(campaign: Id, as_json: options.AsJson = False) -> None:
    """Let a paused campaign run on."""
    _move(campaign, lambda control: control.resume(campaign), "running", as_json=as_json)


def cancel(campaign: Id, as_json: options.AsJson = False) -> None:
    """End a campaign for good: whoever has not been called will not be."""
    _move(campaign, lambda control: control.cancel(campaign), "cancelled", as_json=as_json)


def _dry_run(campaign: str, *, as_json: bool) -> None:

    found = asyncio.run(_dry_run_of(campaign))
    if as_json:
        first = [{"users": users, "message": message} for users, message in found.first]
        document = {"id": campaign, "recipients": found.recipients, "calls": found.calls}
        print_json({**document, "first": first})
        return
    out = console()
    out.print(
        tr(
            "would send to {recipients:,} people in {calls:,} calls",
            recipients=found.recipients,
            calls=found.calls,
        )
    )
    for users, message in found.first:
        text = json.dumps(message, ensure_ascii=False)
        others = tr(" and {number} more", number=len(users) - 1) if len(users) > 1 else ""
        out.print(f"{users[0]}{others}: {text}", markup=False)


async def _dry_run_of(campaign: str) -> "DryRun":
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.estimate import dry_run
    from dingrelay_workers.campaigns.opened import opened_store

    async with opened_store(Settings.load()) as store:
        return await dry_run(store, campaign)


def _move(
    campaign: str, act: "Callable[[Control], Awaitable[None]]", state: str, *, as_json: bool
) -> None:

    asyncio.run(_acted(campaign, act))
    if as_json:
        print_json({"id": campaign, "state": state})
    else:
        console().print(tr("{campaign} is {state}", campaign=campaign, state=state))


async def _acted(campaign: str, act: "Callable[[Control], Awaitable[None]]") -> None:
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.campaigns.control import Control
    from dingrelay_workers.campaigns.opened import opened_services

    own = Settings.load()
    async with opened_services(own) as (database, redis):
        await act(Control(database, redis))
