"""The operator's commands, which their nouns declare in ``cli.py``."""

import typer

from dingrelay_workers.backlog import cli as backlog
from dingrelay_workers.campaigns import cli as campaigns
from dingrelay_workers.commands.worker import worker
from dingrelay_workers.doctor.cli import doctor
from dingrelay_workers.embedded.cli import up
from dingrelay_workers.flower.cli import flower
from dingrelay_workers.gateway.cli import gateway
from dingrelay_workers.keys import cli as keys
from dingrelay_workers.personal_data import cli as people
from dingrelay_workers.webhooks import cli as webhooks

PANEL = "Operation"
CAMPAIGNS_PANEL = "Campaigns"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.add_typer(campaigns.app, name="campaign", rich_help_panel=CAMPAIGNS_PANEL)
    for name, noun in (("person", people), ("key", keys), ("webhook", webhooks)):
        app.add_typer(noun.app, name=name, rich_help_panel=PANEL)
    # What follows -- goes to Celery's worker.
    extra = {"allow_extra_args": True}
    app.command("worker", rich_help_panel=PANEL, context_settings=extra)(worker)
    for command in (up, gateway, flower, doctor, backlog.queue, backlog.limits):
        app.command(command.__name__, rich_help_panel=PANEL)(command)
