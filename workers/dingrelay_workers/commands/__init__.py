"""The operator's commands: one file a noun."""

import typer

from dingrelay_workers.commands import doctor, flower, limits, up, worker

PANEL = "Operation"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("up", rich_help_panel=PANEL)(up.up)
    app.command(
        "worker",
        rich_help_panel=PANEL,
        context_settings={"allow_extra_args": True},
    )(worker.worker)
    app.command("flower", rich_help_panel=PANEL)(flower.flower)
    app.command("doctor", rich_help_panel=PANEL)(doctor.doctor)
    app.command("limits", rich_help_panel=PANEL)(limits.limits)
