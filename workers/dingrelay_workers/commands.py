"""The operator's commands: those of the nouns, and the two processes that put all of them together."""

import os
import uuid
from collections.abc import Sequence
from typing import Annotated

import typer

from dingrelay_producers.language import tr
from dingrelay_workers.console import cli as console
from dingrelay_workers.doctor.cli import doctor
from dingrelay_workers.embedded.cli import up
from dingrelay_workers.flower.cli import flower
from dingrelay_workers.nouns import NOUNS

PANEL = "Operation"

LANES = ("urgent", "normal", "events", "bulk", "directory", "webhooks")
"""Each has a queue of its own, ``dingrelay.<lane>``. A worker takes from the first that holds something."""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for noun in NOUNS:
        for command in noun.commands:
            part = noun.load(command.part)
            if isinstance(part, typer.Typer):
                app.add_typer(part, name=command.name, rich_help_panel=command.panel)
            else:
                app.command(command.name, rich_help_panel=command.panel)(part)
    app.add_typer(console.app, name="console", rich_help_panel=PANEL)
    # Arguments after -- go to Celery's worker.
    extra = {"allow_extra_args": True}
    app.command("worker", rich_help_panel=PANEL, context_settings=extra)(worker)
    for process in (up, gateway, flower, doctor):
        app.command(process.__name__, rich_help_panel=PANEL)(process)


def gateway(
    host: Annotated[
        str, typer.Option(help="Address to listen on; :: is all of IPv4 and IPv6.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.", show_default="8610")
    ] = None,
) -> None:
    """Serve jobs over HTTP, for programs with an API key."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.gateway.server import run
    from dingrelay_workers.http.connection import PORT

    run(Settings.load(), host, PORT if port is None else port)


def worker(
    context: typer.Context,
    lanes: Annotated[
        str, typer.Option(help="Lanes to serve, comma-separated.", show_default="all")
    ] = ",".join(LANES),
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Jobs at once.")
    ] = 32,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve Prometheus metrics there.")
    ] = None,
) -> None:
    """Run a worker. What follows -- goes to Celery's worker as it is.

    dingrelay worker --lanes urgent,normal -c 64 -- --loglevel INFO
    """
    names = _lanes(lanes)
    from dingrelay_producers.settings import Settings
    from dingrelay_workers import preflight
    from dingrelay_workers.celery_worker import controls, supported

    supported.check()
    controls.check_pool(context.args)
    settings = Settings.load()
    preflight.check(settings)
    if metrics_port is not None:
        os.environ["DINGRELAY_METRICS_PORT"] = str(metrics_port)
    run_celery(celery_options(names, concurrency, context.args))


def run_celery(options: Sequence[str]) -> None:
    """Be a worker of Celery until a signal ends it.

    The command ``celery`` would do, but it loads all that it has, with Flower and a prompt.
    """
    from celery.bin import base
    from celery.bin.worker import worker as celery_worker

    from dingrelay_workers.app import app

    context = base.CLIContext(app=app, no_color=None, workdir=None, quiet=True)
    celery_worker.main(list(options), obj=context)


def celery_options(lanes: Sequence[str], concurrency: int, extra: Sequence[str] = ()) -> list[str]:
    """Options of Celery's worker as we run it."""
    # Two workers of one name would answer each other's remote control and look like one.
    name = f"{'all' if len(lanes) == len(LANES) else '-'.join(lanes)}-{uuid.uuid4().hex[:6]}@%h"
    return [
        *("-c", str(concurrency), "-n", name),
        *("-Q", ",".join(f"dingrelay.{lane}" for lane in lanes)),
        # Gossip leaves queues behind for ever when a worker is killed.
        *("--without-gossip", "--without-mingle"),
        *extra,
    ]


def _lanes(text: str) -> list[str]:
    """The lanes of an option, each once, in our order.

    Raises:
        BadParameter: names one that does not exist.
    """
    names = {lane.strip() for lane in text.split(",") if lane.strip()}
    unknown = sorted(names.difference(LANES))
    if unknown or not names:
        problem = (
            tr("no such lane: {lane}", lane=unknown[0]) if unknown else tr("name at least one lane")
        )
        raise typer.BadParameter(
            tr("{problem}; there are {names}", problem=problem, names=", ".join(LANES)),
            param_hint="--lanes",
        )
    return [lane for lane in LANES if lane in names]
