"""The doors of verbs: each carries one out as a caller does, with what is said as JSON."""

import asyncio
import functools
import inspect
import json
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import quote, urlencode, urlsplit

import pytest

from dingrelay_producers.cli import app, group
from dingrelay_producers.client.verbs import Verb
from dingrelay_producers.errors import InvalidArgument, ServiceUnavailable
from dingrelay_producers.exit_codes import UNREACHABLE
from dingrelay_producers.zone import zone
from dingrelay_tasks.contract import ContractError
from dingrelay_workers.console.forms import FormToken
from dingrelay_workers.console.sign_in import SESSION_COOKIE
from dingrelay_workers.console.verb_forms import fields_of
from dingrelay_workers.sessions.sessions import Session
from support.command_line import Cli, made
from support.examples_of_models import MOMENT
from support.gateways import GatewayClient, ask

REACHED = "the body is reached"
Said = Mapping[str, Any]
"""The fields of a request, as JSON."""


@contextmanager
def recording(noun: type, verb: Verb) -> Generator[list[tuple[Any, ...]]]:
    """Record the id and the request that reach the body of a verb.

    It raises `ServiceUnavailable` then; one that hands out pages has none.
    """
    original, reached = getattr(noun, verb.name), list[tuple[Any, ...]]()
    signature = inspect.signature(original)
    wanted = list(signature.parameters)[1 : 1 + verb.has_object + bool(verb.request)]

    def note(arguments: Any, more: Any) -> None:
        bound = signature.bind(*arguments, **more)
        bound.apply_defaults()
        reached.append(tuple(bound.arguments[name] for name in wanted))

    def steps(*arguments: Any, **more: Any) -> Any:
        note(arguments, more)
        raise ServiceUnavailable(REACHED)
        yield

    async def service(*arguments: Any, **more: Any) -> Any:
        note(arguments, more)
        raise ServiceUnavailable(REACHED)

    async def pages(*arguments: Any, **more: Any) -> Any:
        note(arguments, more)
        for page in ():
            yield page

    body = steps if inspect.isgeneratorfunction(original) else service
    body = pages if inspect.isasyncgenfunction(original) else body
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(noun, verb.name, functools.wraps(original)(body))
        yield reached


@dataclass(frozen=True)
class Way:
    """How a verb is said at a door.

    Attributes:
        at: the route, the path of the form, the command, or the method.
        names: field → how it is called there, where it is not called as it is.
        more: what else is typed, or sent.
        says: fields that the door itself gives.
        asks: fields that the door asks for, though the verb has a default.
    """

    at: str
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    more: Any = ()
    says: Said = field(default_factory=dict[str, Any])
    asks: Sequence[str] = ()


class VerbDoor(Protocol):
    """A door.

    Attributes:
        wrong: kinds of values that can be said there, and are refused (`refused`).
        unavailable: status of the answer, or exit code, where the body can't do it now.
    """

    wrong: ClassVar[Sequence[Literal["type", "text"]]]
    unavailable: ClassVar[int]

    def names(self, verb: Verb, way: Way) -> Mapping[str, str]:
        """Fields of the request that can be said there → how they are called."""
        ...

    def blames(self, answer: str, verb: Verb, way: Way, name: str) -> bool:
        """Whether an answer names a field that is wrong, as the caller knows it."""
        ...

    def answer(self, verb: Verb, way: Way, id_: str, said: Said) -> tuple[int, str]:
        """Say a verb: status or exit code, and what is answered."""
        ...


@dataclass(frozen=True)
class HttpDoor:
    """The HTTP gateway."""

    gateway: GatewayClient
    key: str
    wrong, unavailable = ("type", "text"), 503

    def names(self, verb: Verb, way: Way) -> Mapping[str, str]:
        return {name: name for name in _fields_of(verb)}

    def blames(self, answer: str, verb: Verb, way: Way, name: str) -> bool:
        return f'"pointer":"/{name}' in answer

    def answer(self, verb: Verb, way: Way, id_: str, said: Said) -> tuple[int, str]:
        path = way.at.replace("{id}", id_).replace("{instance}", id_)
        reply = self.gateway.ask(verb.method, path, said if verb.request else None, key=self.key)
        return reply.status, reply.content.decode().replace('": ', '":')


@dataclass(frozen=True)
class ConsoleDoor:
    """The console, for a person who has signed in."""

    url: str
    session: Session
    wrong, unavailable = ("text",), 503

    def names(self, verb: Verb, way: Way) -> Mapping[str, str]:
        titled = fields_of(verb.request) if verb.request else ()
        return {field.name: field.name for field in titled} | way.names

    def blames(self, answer: str, verb: Verb, way: Way, name: str) -> bool:
        # Beside the field, or on a page of its own where it is hidden.
        fields = {name, self.names(verb, way)[name]}
        marks = (mark for field in fields for mark in (f'href="#{field}"', f'"alert">{field}'))
        return any(mark in answer for mark in marks)

    def answer(self, verb: Verb, way: Way, id_: str, said: Said) -> tuple[int, str]:
        path, names = way.at.replace("{id}", quote(id_, safe="")), self.names(verb, way)
        token = FormToken(0, {}, "", "/").sealed(self.session, path)
        form = {names[name]: _typed(value) for name, value in said.items()}
        content = urlencode({"form": token, **form, **dict(way.more)}, doseq=True)
        kind = "application/x-www-form-urlencoded"
        return self.ask("POST", path, content.encode(), **{"Content-Type": kind})

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, str]:
        """Make a request as the person's browser does."""
        headers |= {
            "Cookie": f"{SESSION_COOKIE}={self.session.token}",
            "Sec-Fetch-Site": "same-origin",
        }
        reply = ask(urlsplit(self.url).port or 0, method, path, body, **headers)
        return reply.status, reply.content.decode()


def _typed(value: Any) -> Any:
    """A value as a browser sends it."""
    if value == MOMENT.isoformat():
        return MOMENT.astimezone(zone()).strftime("%Y-%m-%dT%H:%M")
    return "1" if value is True else value


@dataclass(frozen=True)
class CommandLine:
    """The command line."""

    cli: Cli
    wrong, unavailable = ("text",), UNREACHABLE

    def names(self, verb: Verb, way: Way) -> Mapping[str, str]:
        names = {name: way.names.get(name, name) for name in _fields_of(verb)}
        return {name: option for name, option in names.items() if option in self._options(way)}

    def blames(self, answer: str, verb: Verb, way: Way, name: str) -> bool:
        option = self._options(way)[self.names(verb, way)[name]]
        is_option = option.param_type_name == "option"
        shown = option.opts[0] if is_option else (option.metavar or option.name).strip("[]")
        return shown.lower() in answer.lower()

    def answer(self, verb: Verb, way: Way, id_: str, said: Said) -> tuple[int, str]:
        options, names = self._options(way), self.names(verb, way)
        order = sorted(said, key=lambda name: [*options].index(names[name]))
        typed = [text for name in order for text in _words(options[names[name]], said[name])]
        result = self.cli(*way.at.split(), *[id_] * verb.has_object, *typed, *way.more)
        return result.exit_code, result.stderr

    def _options(self, way: Way) -> dict[str, Any]:
        """Options and arguments of the command, by name."""
        command: Any = made(app, group.entry_points)
        for name in way.at.split():
            command = command.get_command(None, name)
            assert command, f"there is no command {way.at}"
        return {option.name: option for option in command.params}


def _words(option: Any, value: Any) -> list[str]:
    """A value as it is typed."""
    values = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        pairs = [f"{name}={text}" for name, text in value.items()]
        values = pairs if option.multiple else [json.dumps(value)]
    if option.param_type_name == "argument":
        return [str(each) for each in values]
    if isinstance(value, bool):
        return option.opts[:1] if value else []
    return [text for each in values for text in (option.opts[0], str(each))]


@dataclass(frozen=True)
class PythonDoor:
    """A client in Python, with its methods."""

    client: Any
    methods: Mapping[str, Callable[[Any, str, Any], Any]]
    wrong, unavailable = ("type",), 503

    def names(self, verb: Verb, way: Way) -> Mapping[str, str]:
        parameters = inspect.signature(self._method(verb, way, "x")).parameters
        return {name: name for name in _fields_of(verb) if name in parameters}

    def blames(self, answer: str, verb: Verb, way: Way, name: str) -> bool:
        return name in answer

    def answer(self, verb: Verb, way: Way, id_: str, said: Said) -> tuple[int, str]:
        fields = {
            name: MOMENT if value == MOMENT.isoformat() else value for name, value in said.items()
        }
        try:
            done = self._method(verb, way, id_)(**fields)
            if inspect.iscoroutine(done):
                asyncio.run(done)
        except ServiceUnavailable as error:
            return 503, str(error)
        except (ContractError, InvalidArgument, TypeError) as error:
            return 422, str(error)
        return 200, ""

    def _method(self, verb: Verb, way: Way, id_: str) -> Any:
        return self.methods[verb.noun](self.client, way.at, [id_] * verb.has_object)


def _fields_of(verb: Verb) -> Collection[str]:
    return verb.request.model_fields if verb.request else ()
