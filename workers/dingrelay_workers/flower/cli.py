"""``dingrelay flower``: Flower on the configured broker, behind a password."""

import errno
from typing import Annotated

import typer

from dingrelay_producers.language import translated
from dingrelay_tasks.sentence import en


def flower(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on.")] = 5555,
    address: Annotated[
        str, typer.Option(help="Address to listen on; :: is all of IPv4 and IPv6.")
    ] = "127.0.0.1",
) -> None:
    """Watch jobs and workers in a browser.

    Needs DINGRELAY_FLOWER_USER and DINGRELAY_FLOWER_PASSWORD, except in the sandbox on loopback.
    """
    from dingrelay_producers.settings import Settings
    from dingrelay_workers import logs
    from dingrelay_workers.flower.server import serve

    settings = Settings.load()
    logs.configure(settings)
    try:
        serve(settings, address=address, port=port)
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            raise
        problem = translated(en("{}:{}: {}", address, port, error.strerror))
        raise typer.BadParameter(problem, param_hint="--address, --port") from None
