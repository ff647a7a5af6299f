"""``dingrelay flower``: Flower on the configured broker, behind a password."""

import errno
from typing import TYPE_CHECKING, Annotated

import typer

from dingrelay_producers.language import translated
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from dingrelay_producers.settings import Settings


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


def flower_credentials(settings: "Settings", *, address: str) -> list[str]:
    """The allowed user, as ``user:password``; empty in a sandbox, where access is open.

    Raises:
        SettingsError: a password is needed and not set, or Flower can't compare it.
    """
    from dingrelay_producers.settings import LOOPBACK, SettingsError

    user, password = settings.flower_user, settings.flower_password.get_secret_value()
    if not password:
        if settings.env == "sandbox" and address in LOOPBACK:
            return []
        raise SettingsError(
            "DINGRELAY_FLOWER_PASSWORD: required, except in the sandbox on a loopback address"
        )
    if not user or ":" in user or not user.isascii():
        raise SettingsError("DINGRELAY_FLOWER_USER: must be ASCII and without a colon")
    if not password.isascii():
        raise SettingsError("DINGRELAY_FLOWER_PASSWORD: must be ASCII, others Flower can't compare")
    return [f"{user}:{password}"]
