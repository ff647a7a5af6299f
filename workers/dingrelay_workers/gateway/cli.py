"""The command that starts a gateway."""

from typing import Annotated

import typer


def gateway(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="0 takes a free one.", show_default="8610")
    ] = None,
) -> None:
    """Serve jobs over HTTP, for programs with an API key."""
    from dingrelay_producers.settings import Settings
    from dingrelay_workers.gateway.server import run

    settings = Settings.load()
    wanted = settings.gateway_port if port is None else port
    run(settings, host or settings.gateway_host, wanted)
