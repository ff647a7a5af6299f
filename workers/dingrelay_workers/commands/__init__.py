"""The operator's commands: one file a noun."""

import typer

from dingrelay_workers.commands import (
    campaign,
    doctor,
    flower,
    key,
    limits,
    person,
    queue,
    up,
    webhook,
    worker,
)
from dingrelay_workers.gateway.command import gateway

PANEL = "Operation"
CAMPAIGNS_PANEL = "Campaigns"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(campaign.app, name="campaign", rich_help_panel=CAMPAIGNS_PANEL)
    app.add_typer(person.app, name="person", rich_help_panel=PANEL)
    app.add_typer(key.app, name="key", rich_help_panel=PANEL)
    app.add_typer(webhook.app, name="webhook", rich_help_panel=PANEL)
    app.command("up", rich_help_panel=PANEL)(up.up)
    app.command(
        "worker",
        rich_help_panel=PANEL,
        context_settings={"allow_extra_args": True},
    )(worker.worker)
    app.command("gateway", rich_help_panel=PANEL)(gateway)
    app.command("flower", rich_help_panel=PANEL)(flower.flower)
    app.command("doctor", rich_help_panel=PANEL)(doctor.doctor)
    app.command("queue", rich_help_panel=PANEL)(queue.queue)
    app.command("limits", rich_help_panel=PANEL)(limits.limits)
