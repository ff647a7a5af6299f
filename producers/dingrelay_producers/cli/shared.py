"""Options that several commands have in common: declared once, and taken by the commands that say so.

What a person gives stands in a context variable, as that of ``--json`` does.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Literal

import typer

DEFAULT_APP = "default"
WAIT = ("wait", "timeout")
JOB = ("app", "lane", "sender", "key", "at", "expires", *WAIT)
"""Options of commands that make one job."""

_NOTHING: Mapping[str, Any] = {}
_GIVEN = ContextVar("given", default=_NOTHING)

Command = Callable[..., None]


def takes(*names: str) -> Callable[[Command], Command]:
    """Gives a command these options."""
    options = [_parameter(name, *_OPTIONS[name]) for name in names]

    def keep(values: Mapping[str, Any]) -> Mapping[str, Any]:
        options = {name: value for name, value in values.items() if value is not None}
        _GIVEN.set({**_GIVEN.get(), **options})
        return {}

    return lambda command: with_options(command, options, keep)


def _parameter(name: str, kind: Any, option: Any) -> Parameter:
    annotation = Annotated[kind | None, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def with_options(
    command: Command,
    options: Sequence[Parameter],
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]],
    *,
    instead_of: Collection[str] = (),
) -> Command:
    """The command with further options, whose values it gets as `read` reads them.

    Args:
        command: has its own options as parameters.
        options: keyword-only parameters with typer's annotations.
        read: turns their values, by name, into arguments of the command.
        instead_of: the command's arguments which `read` makes; the options come before the others then.
    """
    own_parameters = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for name, parameter in signature(command, eval_str=True).parameters.items()
        if name not in instead_of
    ]

    @wraps(command)
    def run(**values: Any) -> None:
        option_values = {option.name: values.pop(option.name) for option in options}
        command(**read(option_values), **values)

    run.__annotations__ = {}
    parameters = [*options, *own_parameters] if instead_of else [*own_parameters, *options]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return run


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
        names = [("app", app_name(app))]
        connection.served(names).check(names)
    finally:
        connection.close()
    return app


def seconds_to_wait(otherwise: float) -> float:
    """How long the present command waits at most."""
    seconds: float | None = value_of("timeout")
    return otherwise if seconds is None else seconds


_OPTIONS: Mapping[str, tuple[Any, Any]] = {
    "app": (
        str,
        typer.Option(
            help="The DingTalk application, by its name in the settings; of jobs it is `default` "
            "otherwise, and lists show all."
        ),
    ),
    "lane": (
        Literal["urgent", "normal", "bulk"],
        typer.Option(
            help="Priority when a limit is reached.", show_default="normal; of syncs bulk"
        ),
    ),
    "sender": (
        str,
        typer.Option(help="On whose behalf: a lane's waiting jobs are shared fairly by sender."),
    ),
    "key": (str, typer.Option(help="Idempotency key: the same key never makes a second job.")),
    "at": (str, typer.Option(help="Not before: 2026-01-31T09:00, or +10m from now.")),
    "expires": (str, typer.Option(help="Not after: as --at.")),
    "wait": (bool, typer.Option("--wait", help="Wait for the end.")),
    "timeout": (
        float,
        typer.Option(
            min=0,
            help="Seconds to wait at most.",
            show_default="a minute; of syncs and campaigns an hour, of approvals a day",
        ),
    ),
}
