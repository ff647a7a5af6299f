"""``dingrelay worker``: Celery's worker with our defaults."""

import os
import sys
import uuid
from collections.abc import Sequence
from typing import Annotated

import typer

LANES = ("urgent", "normal", "bulk", "directory")
"""Each has a queue of its own, ``dingrelay.<lane>``."""


def worker(
    context: typer.Context,
    lanes: Annotated[str, typer.Option(help="What to serve, comma-separated.")] = ",".join(LANES),
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
    chosen = _lanes(lanes)
    from dingrelay_producers.settings import Settings
    from dingrelay_workers import preflight
    from dingrelay_workers.celery_worker import supported, worker_options
    from dingrelay_workers.database.schema import migrate

    supported.check()
    worker_options.check_pool(context.args)
    settings = Settings.load()
    preflight.check(settings)
    if metrics_port is not None:
        os.environ["DINGRELAY_METRICS_PORT"] = str(metrics_port)
    migrate(settings)
    command = celery_command(chosen, concurrency, context.args)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point: the worker is this process


def celery_command(lanes: Sequence[str], concurrency: int, extra: Sequence[str] = ()) -> list[str]:
    """Celery's worker as we run it, as a command for exec."""
    # Two workers of one name would answer each other's remote control and look like one.
    name = f"{'all' if len(lanes) == len(LANES) else '-'.join(lanes)}-{uuid.uuid4().hex[:6]}@%h"
    return [
        *(sys.executable, "-m", "celery", "--quiet", "-A", "dingrelay_workers.app", "worker"),
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
    given = {lane.strip() for lane in text.split(",") if lane.strip()}
    unknown = sorted(given.difference(LANES))
    if unknown or not given:
        problem = f"no such lane: {unknown[0]}" if unknown else "name at least one lane"
        raise typer.BadParameter(f"{problem}; there are {', '.join(LANES)}", param_hint="--lanes")
    return [lane for lane in LANES if lane in given]
