"""The command that listens to DingTalk's stream."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command ``events``."""
    app.command(name="events", rich_help_panel="Operation")(events)


def events(
    app: Annotated[
        list[str] | None,
        typer.Option(help="App to receive events for; repeatable.", show_default="all"),
    ] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve Prometheus metrics there.")
    ] = None,
) -> None:
    """Receive DingTalk's events through its stream. No public address is needed."""
    from dingrelay_producers.settings import Settings
    from dingrelay_producers.stream.apps import listening_apps
    from dingrelay_producers.stream.process import run

    changed = {} if metrics_port is None else {"metrics_port": metrics_port}
    settings = Settings.load(**changed)
    run(settings, listening_apps(settings, app or []))
