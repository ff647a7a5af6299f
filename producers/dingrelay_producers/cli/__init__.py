"""The command line, ``dingrelay``: one file a noun.

It starts in a fraction of a second: what a command needs beyond its options is imported when the
command runs. The operator's commands come through the entry point group ``dingrelay.commands``.
"""

import typer

from dingrelay_producers.cli import approve, call, dead, job, running, send, sync
from dingrelay_producers.cli.group import Commands

OWN_SYSTEM = {"up", "demo", "sandbox"}
"""Commands that start a system of their own rather than join the one that runs here."""

JOBS_PANEL = "Jobs"

app = typer.Typer(
    name="dingrelay",
    cls=Commands,
    no_args_is_help=True,
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("send", rich_help_panel=JOBS_PANEL)(send.send)
app.command("sync", rich_help_panel=JOBS_PANEL)(sync.sync)
app.command("approve", rich_help_panel=JOBS_PANEL)(approve.approve)
app.command("call", rich_help_panel=JOBS_PANEL)(call.call)
app.add_typer(job.app, name="job", rich_help_panel=JOBS_PANEL)
app.add_typer(dead.app, name="dead", rich_help_panel=JOBS_PANEL)


@app.callback()
def dingrelay(context: typer.Context) -> None:
    """Carry jobs to DingTalk: under its limits, without losing or doubling one.

    Exit codes: 0 done, 1 the job ended otherwise, 2 usage or settings, 3 a service cannot be
    reached.
    """
    if context.invoked_subcommand not in OWN_SYSTEM:
        running.join()


def main() -> None:
    """Run the command line."""
    app()
