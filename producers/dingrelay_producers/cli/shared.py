"""Options that several commands have in common: declared once, and taken by the commands that say so.

What a person gives stands in context variables, as that of ``--json`` does.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer
from typer.main import get_command

DEFAULT_APP = "default"
_APP = ContextVar("app", default="")
_WAIT = ContextVar("wait", default=False)
_TIMEOUT = ContextVar[float | None]("timeout", default=None)

Command = TypeVar("Command", bound=Callable[..., None])


def takes(*names: str) -> Callable[[Command], Command]:
    """Marks a command that takes these options."""

    def decorate(command: Command) -> Command:
        vars(command)["takes"] = names
        return command

    return decorate


def app_named() -> str | None:
    """The DingTalk application that the present command is for, if it is named."""
    return _APP.get() or None


def app_of_jobs() -> str:
    """The application of the jobs that the present command makes."""
    return _APP.get() or DEFAULT_APP


def waits() -> bool:
    """Whether the present command waits for the end of what it begins."""
    return _WAIT.get()


def seconds_to_wait(otherwise: float) -> float:
    """How long it waits at most."""
    given = _TIMEOUT.get()
    return otherwise if given is None else given


def _keeping(variable: ContextVar[Any]) -> Callable[[Any], None]:
    def keep(value: Any) -> None:
        variable.set(value)

    return keep


def _declared(
    app: Annotated[
        str,
        typer.Option(
            callback=_keeping(_APP),
            expose_value=False,
            help="The DingTalk application, by its name in the settings; of jobs it is `default` "
            "otherwise, and lists show all.",
        ),
    ] = "",
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", callback=_keeping(_WAIT), expose_value=False, help="Wait for the end."
        ),
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0,
            callback=_keeping(_TIMEOUT),
            expose_value=False,
            help="Seconds to wait at most.",
            show_default="a minute; of syncs and campaigns an hour, of approvals a day",
        ),
    ] = None,
) -> None: ...


_COMMANDS = typer.Typer(add_completion=False)
_COMMANDS.command()(_declared)
DECLARED = get_command(_COMMANDS)
"""A command that has all of them."""
