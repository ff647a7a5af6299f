"""Options that several commands have in common: declared once, and taken by the commands that say so.

What a person gives stands in a context variable, as that of ``--json`` does.
"""

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from typing import Annotated, Any, TypeVar

import typer
from typer.main import get_command

from dingrelay_producers.client.filters import LaneName

DEFAULT_APP = "default"
WAIT = ("wait", "timeout")
JOB = ("app", "lane", "sender", "key", "at", "expires", *WAIT)
"""Options of commands that make one job."""

_NOTHING: Mapping[str, Any] = {}
_GIVEN = ContextVar("given", default=_NOTHING)

Command = TypeVar("Command", bound=Callable[..., None])


def takes(*names: str) -> Callable[[Command], Command]:
    """Marks a command that takes these options."""

    def decorate(command: Command) -> Command:
        vars(command)["takes"] = names
        return command

    return decorate


def value_of(name: str) -> Any:
    """The value of one of these options of the present command; None if a person gave none."""
    return _GIVEN.get().get(name)


def app_of_jobs() -> str:
    """The application of the jobs that the present command makes."""
    return value_of("app") or DEFAULT_APP


def served_app() -> str:
    """The same, where workers serve it, for what is no job yet.

    Raises:
        ContractError: no worker does; names those that are near.
    """
    from dingrelay_producers.client.connection import ClientConnection
    from dingrelay_producers.settings import Settings
    from dingrelay_producers.store.served_names import app_name

    app = app_of_jobs()
    connection = ClientConnection(Settings.load())
    try:
        connection.check_served([("app", app_name(app))])
    finally:
        connection.close()
    return app


def seconds_to_wait(otherwise: float) -> float:
    """How long the present command waits at most."""
    seconds: float | None = value_of("timeout")
    return otherwise if seconds is None else seconds


def _keep(parameter: typer.CallbackParam, value: Any) -> None:
    if value is not None and value is not False:
        _GIVEN.set({**_GIVEN.get(), str(parameter.name): value})


def _option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, callback=_keep, expose_value=False, **settings)


def _declared(
    app: Annotated[
        str | None,
        _option(
            help="The DingTalk application, by its name in the settings; of jobs it is `default` "
            "otherwise, and lists show all."
        ),
    ] = None,
    lane: Annotated[
        LaneName | None,
        _option(help="Priority when a limit is reached.", show_default="normal; of syncs bulk"),
    ] = None,
    sender: Annotated[
        str | None,
        _option(help="On whose behalf: a lane's waiting jobs are shared fairly by sender."),
    ] = None,
    key: Annotated[
        str | None, _option(help="Idempotency key: the same key never makes a second job.")
    ] = None,
    at: Annotated[
        str | None, _option(help="Not before: 2026-01-31T09:00, or +10m from now.")
    ] = None,
    expires: Annotated[str | None, _option(help="Not after: as --at.")] = None,
    wait: Annotated[bool, _option("--wait", help="Wait for the end.")] = False,
    timeout: Annotated[
        float | None,
        _option(
            min=0,
            help="Seconds to wait at most.",
            show_default="a minute; of syncs and campaigns an hour, of approvals a day",
        ),
    ] = None,
) -> None: ...


@cache
def declared() -> Any:
    """A command that has all of them."""
    commands = typer.Typer(add_completion=False)
    commands.command()(_declared)
    return get_command(commands)
