"""``dingrelay up``: everything on one machine, from one command."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dingrelay_producers.language import tr


def up(
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="With a DingTalk on this machine.")
    ] = False,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Jobs at once, of each worker.")
    ] = 16,
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of the embedded Valkey and database; delete it to begin again.",
            file_okay=False,
        ),
    ] = Path(".dingrelay"),
) -> None:
    """Run workers, the gateway and Flower, and an embedded Valkey where no Redis is configured.

    In production nothing embedded is started: DINGRELAY_REDIS_URL is required.
    """
    if sandbox:
        _want_sandbox()
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.embedded.up import run

    raise typer.Exit(run(Settings.load(), data, sandbox=sandbox, concurrency=concurrency))


def _want_sandbox() -> None:
    """Be in the sandbox, unless something else is asked for.

    Raises:
        BadParameter: it is.
    """
    from dotenv import dotenv_values

    name = "DINGRELAY_ENV"
    environment = os.environ.get(name) or dotenv_values(".env").get(name)
    if environment not in {None, "", "sandbox"}:
        raise typer.BadParameter(
            tr("{name} is {asked}", name=name, asked=environment), param_hint="--sandbox"
        )
    os.environ[name] = "sandbox"
