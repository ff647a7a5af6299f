"""``dingrelay campaign``: broadcasts, one file a command."""

import typer

from dingrelay_workers.commands.campaign import run, watch

app = typer.Typer(help="Broadcast to any number of people.", no_args_is_help=True)
run.register(app)
app.command("watch")(watch.watch)
