"""The group of all commands: ours, those of other installed parts, and one way to fail."""

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dingrelay_producers.cli.exits import explain

ENTRY_POINTS = "dingrelay.commands"
"""Group of entry points, each a ``register(app: typer.Typer) -> None``."""


class Commands(TyperGroup):
    """Loads the other parts' commands only where ours do not do."""

    _complete = False

    # `Any`: which class a context is depends on the version of typer.
    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, ours first."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in self.commands:
            self._load()
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it raises becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            explained = explain(error, command=ctx.invoked_subcommand or "")
            if explained is None:
                raise
            code, sentence = explained
            typer.secho(sentence, err=True, fg="red")
            raise typer.Exit(code) from None

    def _load(self) -> None:
        if self._complete:
            return
        self._complete = True
        for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
            others = typer.Typer()
            try:
                point.load()(others)
            except ModuleNotFoundError as error:
                _register_incomplete(others, point, error)
            for name, command in get_group(others).commands.items():
                self.commands.setdefault(name, command)


def _register_incomplete(app: typer.Typer, point: EntryPoint, missing: ModuleNotFoundError) -> None:
    """Stand in for a part whose packages are not installed, under its entry point's name."""

    def command() -> None:
        raise missing

    app.command(
        point.name,
        help="Not installed.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(command)
