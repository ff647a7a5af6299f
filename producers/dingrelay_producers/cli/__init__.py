"""The command line, ``dingrelay``: one file a noun.

It starts in a fraction of a second: a command is imported when it is asked for (`group.py`), and what it needs
beyond its options when it runs. The operator's commands come through the entry point group ``dingrelay.commands``.
"""

import gc
import os
import signal
import threading

COLLECTED_AFTER = 200_000
"""New objects before Python's garbage collector looks at them: more than a command makes that does one thing. What is
imported stays, and to look for garbage in it takes a tenth of a start."""
COLLECTED_IN_SERVICES = 50_000
"""The same of what runs until it is stopped; the worker and the gateway choose another number once they are ready."""
_AS_USUAL = gc.get_threshold()
gc.set_threshold(COLLECTED_AFTER)


def _end_at_once(number: int, _: object) -> None:
    os._exit(128 + number)


_INTERRUPTIBLE = (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
)
if _INTERRUPTIBLE:
    # Most of a start is imports, and Ctrl-C in one of them prints a traceback.
    signal.signal(signal.SIGINT, _end_at_once)

import io
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Any

import typer

from dingrelay_producers import running
from dingrelay_producers.cli.group import OWN_SYSTEM, SERVICES, Commands
from dingrelay_producers.cli.reader_language import allow_between_characters
from dingrelay_producers.tracing import export

FIRST_PROCESS = 1
"""The process id of a container's main program. The kernel keeps signals from it that it does not handle, so SIGTERM
would not end it as long as it starts."""

app = typer.Typer(
    name="dingrelay",
    cls=Commands,
    no_args_is_help=True,
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_asked_for: bool) -> None:
    if is_asked_for:
        from importlib.metadata import version

        typer.echo(f"dingrelay {version('dingrelay')}")
        raise typer.Exit


def _choose_json(is_asked_for: bool) -> None:
    if is_asked_for:
        from dingrelay_producers.cli.output import as_json

        as_json.set(True)


@app.callback()
def dingrelay(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", callback=_choose_json, expose_value=False, help="Print JSON for programs."
        ),
    ] = False,
) -> None:
    """Carry jobs to DingTalk: under its limits, without losing or doubling one.

    Exit codes: 0 done, 1 the job ended otherwise, 2 usage or settings, 3 a service cannot be
    reached, 4 the job has not ended within --timeout: it goes on.
    """
    if context.invoked_subcommand not in OWN_SYSTEM:
        running.join()
    if context.invoked_subcommand in SERVICES:
        gc.set_threshold(COLLECTED_IN_SERVICES)
        allow_between_characters()
    else:
        export.start("dingrelay")
        _load_no_metrics_for_redis()


def main() -> None:
    """Run the command line."""
    if os.getpid() == FIRST_PROCESS:
        signal.signal(signal.SIGTERM, _end_at_once)
    gc.set_threshold(COLLECTED_AFTER)
    print_any_character()
    try:
        with _inherited_trace():
            app()
    except KeyboardInterrupt:  # typer handles it while a command runs
        from dingrelay_producers.exit_codes import INTERRUPTED

        raise SystemExit(INTERRUPTED) from None
    finally:
        export.stop()
        # Python would look at everything once more as it ends.
        gc.freeze()


def _load_no_metrics_for_redis() -> None:
    """Spare a command some hundredths of a second: redis-py imports OpenTelemetry's metrics wherever they are installed.

    It has figures of its own for them, which only services could show. None in the table of modules means that there
    is no such module.
    """
    if "opentelemetry.sdk" not in sys.modules:
        modules: dict[str, Any] = sys.modules
        modules["opentelemetry.metrics"] = None


def _inherited_trace() -> AbstractContextManager[object]:
    """The trace that programs hand on to those that they start, a step of a CI job for instance."""
    traceparent = os.environ.get("TRACEPARENT")
    if traceparent is None:
        return nullcontext()
    from dingrelay_producers.tracing import spans

    return spans.carried(spans.read(traceparent, os.environ.get("TRACESTATE")))


def print_any_character() -> None:
    """Let a terminal of ASCII or GBK show something else for characters that it has not."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


gc.freeze()  # Python would look at what was imported as soon as it may
gc.set_threshold(*_AS_USUAL)
if _INTERRUPTIBLE:
    signal.signal(signal.SIGINT, signal.default_int_handler)
