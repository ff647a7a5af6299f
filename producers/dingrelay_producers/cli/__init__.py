"""The command line, ``dingrelay``: one file a noun.

It starts in a fraction of a second: what a command needs beyond its options is imported when the
command runs. The operator's commands come through the entry point group ``dingrelay.commands``.
"""

import os
import signal
import threading


def _end_at_once(number: int, _: object) -> None:
    os._exit(128 + number)


_INTERRUPTIBLE = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _INTERRUPTIBLE:
    # Most of a start is imports, and Ctrl-C in one of them prints a traceback.
    signal.signal(signal.SIGINT, _end_at_once)

import gc
import io
import sys
from typing import Annotated

import typer

from dingrelay_producers import running
from dingrelay_producers.cli import (
    approval,
    approve,
    call,
    dead,
    job,
    media,
    message,
    send,
    sync,
    who,
)
from dingrelay_producers.cli.exits import INTERRUPTED
from dingrelay_producers.cli.group import Commands
from dingrelay_producers.tracing import export, spans

SERVICES = {"up", "demo", "sandbox", "worker", "gateway", "events", "flower"}
"""Commands that run until they are stopped, and see to their traces themselves."""
OWN_SYSTEM = {"up", "demo", "sandbox"}
"""Commands that start a system of their own rather than join the one that runs here."""

JOBS_PANEL = "Jobs"
COLLECTED_AFTER = 50_000
"""New objects before Python's garbage collector looks at them; the worker and the gateway choose
another number once they are ready. What is imported stays: looking for garbage in it is a tenth of
the time that a start takes."""

FIRST_PROCESS = 1
"""In a container the number of the program itself. The kernel keeps signals from it that it does not
handle, so SIGTERM would not end it as long as it starts."""

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
app.add_typer(approval.app, name="approval", rich_help_panel=JOBS_PANEL)
app.add_typer(job.app, name="job", rich_help_panel=JOBS_PANEL)
app.add_typer(message.app, name="message", rich_help_panel=JOBS_PANEL)
app.add_typer(media.app, name="media", rich_help_panel=JOBS_PANEL)
app.command("who", rich_help_panel=JOBS_PANEL)(who.who)
app.add_typer(dead.app, name="dead", rich_help_panel=JOBS_PANEL)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"dingrelay {version('dingrelay')}")
        raise typer.Exit


@app.callback()
def dingrelay(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    cell: Annotated[
        str, typer.Option(help="The cell to work for, where the settings name cells.")
    ] = "",
) -> None:
    """Carry jobs to DingTalk: under its limits, without losing or doubling one.

    Exit codes: 0 done, 1 the job ended otherwise, 2 usage or settings, 3 a service cannot be
    reached, 4 the job has not ended within --timeout: it goes on.
    """
    if context.invoked_subcommand not in OWN_SYSTEM:
        running.join()
    if cell:
        os.environ["DINGRELAY_CELL"] = cell
    if context.invoked_subcommand not in SERVICES:
        export.start("dingrelay")


def main() -> None:
    """Run the command line."""
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _end_at_once)
    gc.set_threshold(COLLECTED_AFTER)
    print_any_character()
    # As programs that start others hand their trace on, a step of a CI job for instance.
    given = spans.read(os.environ.get("TRACEPARENT"), os.environ.get("TRACESTATE"))
    try:
        with spans.carried(given):
            app()
    except KeyboardInterrupt:  # typer handles it while a command runs
        raise SystemExit(INTERRUPTED) from None
    finally:
        export.stop()


def print_any_character() -> None:
    """Let a terminal of ASCII or GBK show something else for characters that it has not."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if _INTERRUPTIBLE:
    signal.signal(signal.SIGINT, signal.default_int_handler)
