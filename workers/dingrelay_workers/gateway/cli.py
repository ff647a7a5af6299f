"""The command that starts a gateway."""

from typing import Annotated

import typer

from dingrelay_workers.http.connection import PORT


def gateway(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0 takes a free one.")] = PORT,
) -> None:
    """Serve jobs over HTTP, for programs with an API key."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.gateway.server import run

    run(Settings.load(), host, port)
