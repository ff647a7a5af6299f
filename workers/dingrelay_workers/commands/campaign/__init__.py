"""``dingrelay campaign``: broadcasts, one file a command."""

import typer

from dingrelay_workers.commands.campaign import (
    create,
    delete,
    follow_up,
    list_,
    report,
    run,
    show,
)

app = typer.Typer(help="Broadcast to any number of people.", no_args_is_help=True)
app.command("create")(create.create)
app.command("list")(list_.list_)
app.command("show")(show.show)
run.register(app)
app.command("report")(report.report)
follow_up.register(app)
app.command("delete")(delete.delete)
