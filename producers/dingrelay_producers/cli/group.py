"""The group of all commands: ours, those of other installed parts, and one way to fail."""

from collections.abc import Iterator, Sequence
from contextvars import copy_context
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dingrelay_producers.actor import ACTOR, Actor, system_user
from dingrelay_producers.cli.reader_language import speak, speak_error, speak_headings
from dingrelay_producers.language import spoken, tr, translated

OURS = {
    "send": "cli.send",
    "sync": "cli.send",
    "call": "cli.send",
    "job": "cli.job",
    "approval": "cli.approval",
    "media": "cli.media",
    "outbox": "outbox.cli",
}
"""Commands of the producers → their modules, in the order of the help page."""
JOBS_PANEL = "Jobs"
ENTRY_POINTS = "dingrelay.commands"
"""Group of entry points, each a ``register(app: typer.Typer) -> None``."""
SERVICES = {"up", "demo", "sandbox", "worker", "gateway", "events", "flower"}
"""Commands that run until they are stopped: they print no JSON, and see to their traces themselves."""
OWN_SYSTEM = {"up", "demo", "sandbox"}
"""Commands that start a system of their own rather than join the one that runs here."""
SHARED = {"as_json": SERVICES}
"""Options of the whole command line that may stand behind a command as well, and the commands that have no use for them."""
RENAMED = {
    "approve": "approval create",
    "campaign confirm": "campaign report --refresh",
    "campaign watch": "campaign show --watch",
    "dead discard": "job discard",
    "dead requeue": "job requeue",
    "dead show": "job show",
}
"""Commands of 0.2.0 → what they are now, and do still."""
MOVED = {
    "campaign preview": "campaign create --dry-run",
    "dead": "job list --state dead",
    "dead list": "job list --state dead",
}
"""Commands of 0.2.0 → what does a part of what they did."""


def _say_unaudited(reason: str) -> None:
    _note(tr("not in the audit: {error}", error=translated(reason)), style="yellow")


class Commands(TyperGroup):
    """Loads each command when it is asked for, and all only to list them."""

    _complete = False

    # `Any`: which class a context is depends on the version of typer.
    def list_commands(self, ctx: Any) -> list[str]:
        """The names of all commands, ours first."""
        self._load()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of that name in the reader's language, or None."""
        if cmd_name not in self.commands:
            self._load(cmd_name)
        if cmd_name not in self.commands:
            self._load()  # what is like it is suggested
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            speak(command)
            own_options = [
                option
                for option in self.params
                if cmd_name not in SHARED.get(str(option.name), {cmd_name})
            ]
            share_options(command, own_options)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of these arguments; of a renamed one a note of its name, of one that has moved an error."""
        for words in (
            () if ctx.resilient_parsing else (2, 1)
        ):  # a shell that completes it shows no errors
            old = " ".join(args[:words])
            new = RENAMED.get(old) or MOVED.get(old)
            if new:
                sentence = tr("`dingrelay {old}` is `dingrelay {new}` now", old=old, new=new)
                if old in MOVED:
                    ctx.fail(sentence)
                _note(sentence, style="dim")
                args = [*new.split(), *args[words:]]
                break
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Be the command line, in the reader's language."""
        # What options say stands in context variables, which end with the command.
        return copy_context().run(self._main, *args, **kwargs)

    def _main(self, *args: Any, **kwargs: Any) -> Any:
        ACTOR.set(Actor("cli", system_user(), on_unaudited=_say_unaudited))
        with spoken():
            speak(self, below=False)  # `get_command` speaks for those
            speak_headings()
            return super().main(*args, **kwargs)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read our own options."""
        try:
            return super().make_context(*args, **kwargs)
        except Exception as error:
            _speak_if_usage(error)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run a command; what it raises becomes one line and an exit code."""
        try:
            return super().invoke(ctx)
        except typer.Abort:
            _load_headings()
            raise
        except typer.Exit:
            raise
        except Exception as error:
            from dingrelay_producers.cli.output import explain

            explained = explain(error, command=ctx.invoked_subcommand or "")
            if explained is None:
                _speak_if_usage(error)
                raise
            code, sentence = explained
            _note(translated(sentence), style="red")
            raise typer.Exit(code) from None

    def _load(self, only: str = "") -> None:
        """Add the commands of all parts, in their order. One alone is made in a fraction of the time."""
        if self._complete:
            return
        self._complete = not only
        commands: dict[str, Any] = {}
        for part in (_part_of(only),) if only in OURS else (_part_of(only), *_parts()):
            if only:
                part.registered_commands = [
                    command for command in part.registered_commands if command.name == only
                ]
                part.registered_groups = [
                    group for group in part.registered_groups if group.name == only
                ]
            for name, command in get_group(part).commands.items():
                commands.setdefault(name, self.commands.get(name, command))
        self.commands = {**commands, **self.commands} if only else commands


def _part_of(only: str) -> typer.Typer:
    part = typer.Typer()
    for name, module in OURS.items():
        if only in {"", name}:
            noun = import_module(f"dingrelay_producers.{module}")
            if hasattr(noun, "app"):
                part.add_typer(noun.app, name=name, rich_help_panel=JOBS_PANEL)
            else:
                part.command(name, rich_help_panel=JOBS_PANEL)(getattr(noun, name))
    return part


def _parts() -> Iterator[typer.Typer]:
    # Stand-ins come last, so that none hides a command that is there.
    incomplete = typer.Typer()
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        part = typer.Typer()
        try:
            point.load()(part)
        except ModuleNotFoundError as error:
            _register_incomplete(incomplete, point, error)
        else:
            yield part
    yield incomplete


def share_options(command: Any, shared: Sequence[Any]) -> None:
    """Let a command, or those of a group, take options of the whole command line, too."""
    vars(command)["shared"] = shared  # for what a group makes later
    for subcommand in getattr(command, "commands", {"": command}).values():
        if hasattr(subcommand, "commands"):  # a group of its own
            share_options(subcommand, shared)
        else:
            vars(subcommand)["get_params"] = _params_of(subcommand, shared)
            vars(subcommand)["invoke"] = partial(_invoke, subcommand)


def _invoke(command: Any, context: Any) -> Any:
    """Carry a command out; an error about what an option gives names the option."""
    try:
        return type(command).invoke(command, context)
    except ValueError as error:
        from dingrelay_producers.cli.options import blamed_on_options

        raise blamed_on_options(error, context) from None


def _note(sentence: str, *, style: str) -> None:
    from dingrelay_producers.cli.output import note

    note(sentence, style=style)


def _params_of(command: Any, shared: Sequence[Any]) -> Any:
    kind = type(command)

    def get_params(context: Any) -> list[Any]:
        *own_options, help_option = kind.get_params(command, context)
        spellings = {name for option in own_options for name in option.opts}
        return [
            *own_options,
            *(option for option in shared if spellings.isdisjoint(option.opts)),
            help_option,
        ]

    return get_params


def _speak_if_usage(error: Exception) -> None:
    # typer has its own copy of click in some releases, so the class has no one name.
    if hasattr(error, "format_message"):
        _load_headings()
        speak_error(error)


def _load_headings() -> None:
    import_module("typer.rich_utils")  # it would be loaded behind our back
    speak_headings()


def _register_incomplete(app: typer.Typer, point: EntryPoint, missing: ModuleNotFoundError) -> None:
    """Stand in for a part whose packages are not installed, under its entry point's name."""

    def command() -> None:
        raise missing

    app.command(
        point.name,
        help=tr("Not installed."),
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(command)
