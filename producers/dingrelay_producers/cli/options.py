"""Options that several commands share, and how their values are read: JSON, times, lists, pairs."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dingrelay_producers.cli.shared import Command, value_of, with_options
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.zone import local, zone
from dingrelay_tasks.asked import PERSON, Asked
from dingrelay_tasks.sentence import en, not_json

if TYPE_CHECKING:
    from dingrelay_producers.client.filters import ListFilter

Text = Annotated[str | None, typer.Option(help="A text message.")]
Markdown = Annotated[
    tuple[str, str] | None, typer.Option(metavar="TITLE TEXT", help="A Markdown message.")
]
Message = Annotated[
    str | None,
    typer.Option(
        metavar="JSON|@FILE|@-",
        help='DingTalk\'s own msg object, of any type; a file in it as {"file": "menu.png"}.',
    ),
]
Limit = Annotated[
    int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the newest.")
]

APP = "app"


def filtered_by(model: "type[ListFilter]") -> Callable[[Command], Command]:
    """Gives a command one option for each field of a filter but the shared `app`, and the filter as its first argument.

    Args:
        model: of the filter. A moment is read as `read_past` reads it.
    """
    from dingrelay_producers.client.filters import askable

    fields = askable(model)

    def read(values: Mapping[str, Any]) -> "ListFilter":
        conditions = {name: text for name, text in values.items() if text is not None}
        for name, text in conditions.items():
            option = option_name(name)
            if fields[name][1].metavar == PERSON:
                conditions[name] = userid(text, option)
            elif fields[name][0] == datetime | None:
                conditions[name] = read_past(text, option)
        if APP in fields:
            conditions[APP] = value_of(APP)
        return model(**conditions)

    options = [
        option_of(name, str | None if kind == datetime | None else kind, option, default=None)
        for name, (kind, option) in fields.items()
        if name != APP
    ]

    def decorate(command: Command) -> Command:
        name = next(iter(signature(command).parameters))
        return with_options(
            command, options, lambda values: {name: read(values)}, instead_of=[name]
        )

    return decorate


def option_of(name: str, kind: Any, asked: Asked, *, default: Any = Parameter.empty) -> Parameter:
    """The parameter of a command for a value that is asked for.

    Args:
        name: of the value.
        kind: type of the option's value.
        asked: how it is asked for.
        default: if it is not given; without one it must be.
    """
    names = (asked.option,) if asked.option else ()
    if kind in {bool, bool | None}:
        # One that may be left open can be denied as well.
        names = (f"{option_name(name)}{f'/--not-{name}' if kind is not bool else ''}",)
    declare = typer.Argument if asked.argument else typer.Option
    annotation = Annotated[kind, declare(*names, help=asked.help, metavar=asked.metavar)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def option_name(name: str) -> str:
    """The option that gives a value."""
    return f"--{name.replace('_', '-')}"


def userids(values: list[str] | None, option: str, app: str | None = None) -> list[str]:
    """The userids of people who are named in an option, each by it or by their name; those who left do not count.

    Raises:
        BadParameter, NotInstalled, ServiceUnavailable: as `userid`.
    """
    return [userid(text, option, app, left=False) for text in split(values)]


def userid(
    text: str,
    option: str,
    app: str | None = None,
    *,
    left: bool = True,
    unknown: bool = False,
) -> str:
    """The userid of a person who is named by it, or by the name that the directory has.

    Args:
        text: names the person.
        option: where.
        app: whose directory; None for all.
        left: whether people who left count as well.
        unknown: whether a text that no person has as a name is a userid: what is kept of people outlives the directory.

    Raises:
        BadParameter: no person has this name, or several have it, who are named.
        NotInstalled: the packages that the directory needs are missing.
        ServiceUnavailable: the database can't be used.
    """
    if text.isascii() and " " not in text:  # a userid, as a rule
        return text
    from dingrelay_producers.client.in_threads import run
    from dingrelay_producers.installed import service
    from dingrelay_producers.settings import Settings

    history = service("HistoryService", Settings.load())
    people = run(history.search(text, app=app, limit=LOOK_ALIKES)).people
    same = {
        person.userid: person
        for person in people
        if text in {person.userid, person.name} and (left or not person.left_at)
    }
    if not same and unknown:
        return text
    if not same:
        problem = tr(
            "the directory has no person called {name}; `dingrelay person find` finds people by a part of "
            "their name, and `dingrelay sync` reads the directory from DingTalk",
            name=text,
        )
        raise typer.BadParameter(problem, param_hint=option)
    if text not in same and len(same) > 1:
        candidates = ", ".join(
            f"{person.userid} ({', '.join(person.departments) or tr('no department')})"
            for person in list(same.values())[:NAMESAKES]
        )
        raise typer.BadParameter(
            tr("several people are called {name}: {candidates}", name=text, candidates=candidates),
            param_hint=option,
        )
    return text if text in same else next(iter(same))


LOOK_ALIKES = 1_000
"""People with a name in theirs who are looked at."""
NAMESAKES = 10
"""People of one name who are named at most."""
STILL_NOW = timedelta(minutes=1)
"""How far a moment may lie in the past and still pass: it was in the future when typing began."""
_COMMA = re.compile("[,，、]")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(r"^-?(\d{1,5})([smhd])$")
_FROM_NOW = re.compile(r"^\+(\d{1,6})([smhd])$")


def read_json(text: str, option: str) -> Any:
    """The JSON of an option: given as such, or as ``@file``, or as ``@-`` for standard input.

    Raises:
        BadParameter: names the option.
    """
    try:
        if text.startswith("@"):
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text("utf-8")
        return json.loads(text)
    except OSError as error:
        raise typer.BadParameter(
            translated(en("{}: {}", error.filename, error.strerror)),
            param_hint=option,
        ) from None
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(translated(not_json(error)), param_hint=option) from None


def read_message(text: str | None, markdown: tuple[str, str] | None, message: str | None) -> Any:
    """DingTalk's ``msg`` object from the one option that gives it.

    Raises:
        BadParameter: none or several give it.
    """
    sources = [option for option in (text, markdown, message) if option is not None]
    if len(sources) != 1:
        raise typer.BadParameter(
            tr("give exactly one of them"), param_hint="--text, --markdown, --message"
        )
    if text is not None:
        return {"msgtype": "text", "text": {"content": text}}
    if markdown is not None:
        title, body = markdown
        return {"msgtype": "markdown", "markdown": {"title": title, "text": body}}
    return read_json(message or "", "--message")


def read_moment(text: str | None, option: str) -> str | None:
    """A time to come as ISO 8601 with its zone; ``+10m`` counts from now, one without is of the reader's zone.

    Raises:
        BadParameter: names the option.
    """
    if text is None:
        return None
    if match := _FROM_NOW.match(text):
        number, unit = match.groups()
        return (clock.now() + timedelta(**{_UNITS[unit]: int(number)})).isoformat()
    like = tr("2026-01-31T09:00, 2026-01-31T09:00+08:00, +90s, +10m, +2h or +1d")
    moment = _absolute(text, option, like)
    now = clock.now()
    if moment < now - STILL_NOW:
        problem = tr("{moment} is over; it is {now} now", moment=local(moment), now=local(now))
        raise typer.BadParameter(problem, param_hint=option)
    return moment.isoformat()


def job_fields() -> dict[str, Any]:
    """The fields of a job that the shared options of the present command give.

    Raises:
        BadParameter: names the option.
    """
    fields = {
        **{name: value_of(name) for name in ("app", "lane", "sender")},
        "idempotency_key": value_of("key"),
        "send_at": read_moment(value_of("at"), "--at"),
        "expires_at": read_moment(value_of("expires"), "--expires"),
    }
    return {name: value for name, value in fields.items() if value is not None}


def read_past(text: str | None, option: str) -> datetime | None:
    """A moment that may be over; ``7d`` counts back from now, one without zone is of the reader's.

    Raises:
        BadParameter: names the option.
    """
    if text is None:
        return None
    if match := _AGO.match(text):
        number, unit = match.groups()
        return clock.now() - timedelta(**{_UNITS[unit]: int(number)})
    return _absolute(text, option, tr("2026-01-31, 2026-01-31T09:00+08:00, 90s, 10m, 2h or 7d"))


def _absolute(text: str, option: str, like: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        # Converted from the zone in which it was given to the reader's.
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone())).astimezone(zone())
    except (ValueError, OverflowError):
        raise typer.BadParameter(tr("must be like {like}", like=like), param_hint=option) from None


def read_pair(text: str, sign: str, form: str, option: str) -> tuple[str, str]:
    """The two parts of a value such as ``NAME=VALUE``, on both sides of the sign.

    Raises:
        BadParameter: it has none; names the form and the option.
    """
    left_part, separator, right_part = text.partition(sign)
    if not separator:
        problem = tr("{text!r} is not {form}", text=text, form=form)
        raise typer.BadParameter(problem, param_hint=option)
    return left_part, right_part


def blamed_on_options(error: ValueError, context: Any) -> Exception:
    """An error about fields of a request as one about the options, or arguments, that are called so.

    Args:
        error: stays what it is if it is another one, or none of the options has given the field.
        context: of the command.
    """
    from dingrelay_tasks.contract import ContractError

    absent = (None, False)
    options = {
        option.name: option
        for option in context.command.params
        if context.params.get(option.name) not in absent
    }
    if not isinstance(error, ContractError) or error.field.partition(".")[0] not in options:
        return error

    def name_and_problem(error: ContractError) -> tuple[str, str]:
        field, _, place = error.field.partition(".")
        problem = translated(error.problem)
        if field not in options:
            return error.field, problem
        option, values = options[field], context.params[field]
        if place.isdecimal() and isinstance(values, list):
            place = split(values)[int(place)]
        is_option = option.param_type_name == "option"
        shown = option.opts[0] if is_option else (option.metavar or field.upper()).strip("[]")
        return shown, f"{place}: {problem}" if place else problem

    shown, problem = name_and_problem(error)
    others = (": ".join(name_and_problem(other)) for other in error.others)
    problems = "; ".join((problem, *others))
    return typer.BadParameter(problems, ctx=context, param_hint=shown)


def split(values: list[str] | None) -> list[str]:
    """Values of an option that may be repeated, or given comma-separated in one."""
    parts = (part.strip() for value in values or [] for part in _COMMA.split(value))
    return [part for part in parts if part]
