"""The command that listens to DingTalk's stream."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dingrelay_producers.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command ``events``."""
    app.command(name="events", rich_help_panel="Operation")(events)


def events(
    app: Annotated[
        list[str] | None,
        typer.Option(help="App to receive events for; repeatable.", show_default="all"),
    ] = None,
) -> None:
    """Receive DingTalk's events through its stream. No public address is needed."""
    from dingrelay_producers.settings import Settings
    from dingrelay_producers.stream.listener import run

    settings = Settings.load()
    run(settings, listening_apps(settings, app or []))


def listening_apps(settings: "Settings", names: "Sequence[str]") -> list[str]:
    """The apps to listen for: those that are chosen, else all whose events don't come over HTTP.

    Raises:
        SettingsError: there is none, or one of them has no key or no secret.
    """
    from dingrelay_producers.settings import SettingsError

    apps = list(names) or [name for name, app in settings.apps.items() if not app.has_callback]
    if not apps:
        raise SettingsError(
            "apps: there is none to listen for; all have callbacks, or none is configured"
        )
    for app in apps:
        settings.app(app)
    return sorted(set(apps))
