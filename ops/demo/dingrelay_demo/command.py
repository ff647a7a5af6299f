"""``dingrelay demo``."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command ``demo``."""
    app.command("demo", rich_help_panel="Operation")(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave Flower and the rest running until Ctrl-C.")
    ] = False,
) -> None:
    """Watch the main jobs run on a local DingTalk. Exit code 0 only if its audit agrees."""
    from dingrelay_demo.demo import run

    raise typer.Exit(run(keep=keep))
