"""Commands of verbs: name, help, arguments, options and question follow from the declaration.

A noun's commands are those that are written by hand, since they do more than a verb, and one for each other verb. These are
made when they are asked for: a noun's class takes longer to load than the help page of all commands.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_origin, get_type_hints

import typer
from typer.core import TyperGroup
from typer.main import get_group

from dingrelay_producers.cli import options
from dingrelay_producers.cli.reader_language import speak
from dingrelay_producers.cli.shared import Command, app_of_jobs, takes, value_of, with_options
from dingrelay_producers.language import translated
from dingrelay_tasks.asked import Asked

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from dingrelay_producers.client.verbs import Question, Verb

_KINDS = {"boolean": bool, "integer": int, "number": float, "array": list[str]}
"""Type of JSON → type of an option's value, where that is no text; the contract checks the rest."""
YES = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


class VerbCommands(NamedTuple):
    """How the verbs of a noun look on the command line.

    Attributes:
        noun: class with the verbs, such as ``dingrelay_producers.client.jobs:Jobs``.
        argument: names what a verb is done to; its name, and typer's annotation.
        carry_out: given that class, a verb and arguments of its body, carries it out and prints what it leads to.
        takes: shared options of every verb.
        more: verb → further shared options. A field of the request which is called as a shared option is given by it.
        names: verb → its command, where that is called otherwise.
        about: last paragraph of each help page.
    """

    noun: str
    argument: tuple[str, Any]
    carry_out: Callable[..., None]
    takes: Sequence[str] = ()
    more: Mapping[str, Sequence[str]] = {}
    names: Mapping[str, str] = {}
    about: str = ""


def noun_app(verbs: VerbCommands, about: str) -> typer.Typer:
    """The commands of a noun: those that it is given, and its other verbs."""
    group = type("NounGroup", (_NounGroup,), {"verbs": verbs})
    return typer.Typer(cls=group, help=about, no_args_is_help=True)


def carry_out_in_redis(noun: Any, verb: "Verb", *arguments: Any, **more: Any) -> Any:
    """Document of a verb of jobs or approvals."""
    from dingrelay_producers import running
    from dingrelay_producers.client.connection import ClientConnection

    connection = ClientConnection(running.settings())
    try:
        steps = getattr(noun(connection.settings), verb.name)(*arguments, **more)
        return connection.carry_out(steps)
    finally:
        connection.close()


class _NounGroup(TyperGroup):
    verbs: VerbCommands
    shared: Sequence[Any] = ()
    _complete = False

    # `Any`: which class a context is depends on the version of typer.
    def list_commands(self, ctx: Any) -> list[str]:
        self._add_verbs()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            self._add_verbs()
        return super().get_command(ctx, cmd_name)

    def _add_verbs(self) -> None:
        if self._complete:
            return
        self._complete = True
        from dingrelay_producers.cli.group import share_options
        from dingrelay_producers.client.verbs import verbs_of

        module, _, kind = self.verbs.noun.partition(":")
        noun, made = getattr(import_module(module), kind), typer.Typer()
        for verb in verbs_of(noun):
            name = self.verbs.names.get(verb.name, verb.name)
            if name not in self.commands:
                parts = (f"{verb.summary}.", verb.description, self.verbs.about)
                about = "\n\n".join(filter(None, parts))
                made.command(name, help=about)(_command_of(noun, verb, self.verbs))
        for name, command in get_group(made).commands.items():
            speak(command)
            share_options(command, self.shared)
            self.commands[name] = command


def _command_of(noun: type, verb: "Verb", verbs: VerbCommands) -> Command:
    """The command of a verb."""
    name, annotation = verbs.argument
    has_object = "{" in verb.path
    request: Any = verb.request
    fields = dict(request.model_fields) if request else {}
    taken = (*verbs.takes, *verbs.more.get(verb.name, ()))
    parameters = [_parameter(request, field) for field in fields if field not in taken]
    if has_object:
        parameters.insert(0, Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation))
    more = [options.option_of(name, *asked, default=None) for name, asked in _more(verb)]
    parameters += more
    if verb.question:
        yes = Parameter("yes", Parameter.KEYWORD_ONLY, default=False, annotation=YES)
        parameters.append(yes)

    def run(values: dict[str, Any]) -> None:
        if verb.question and not values["yes"]:
            _ask(verb.question)
        arguments: list[Any] = [values[name]] if has_object else []
        shared = {field: value_of(field) for field in taken}
        request_fields = _read_fields(request, {**values, **shared}) if request else {}
        if request:
            arguments.append(request.parse(request_fields))
        further = {argument.name: values[argument.name] for argument in more}
        verbs.carry_out(noun, verb, *arguments, **further)

    def read(values: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"values": values}

    return takes(*taken)(with_options(run, parameters, read, instead_of=["values"]))


def _more(verb: "Verb") -> Iterator[tuple[str, tuple[Any, Asked]]]:
    """Arguments of a verb's body beside its request that are `Asked` for, with their types."""
    for name, hint in get_type_hints(verb.body, include_extras=True).items():
        if get_origin(hint) is Annotated and isinstance(hint.__metadata__[0], Asked):
            yield name, (hint.__origin__, hint.__metadata__[0])


def _ask(question: "Question") -> None:
    """Ask on a terminal.

    Raises:
        Abort: the answer is no.
    """
    if sys.stdin.isatty():
        prompt = f"{translated(question.title)} {translated(question.risk)}"
        typer.confirm(prompt, abort=True, err=True)


def _parameter(model: "type[BaseModel]", name: str) -> Parameter:
    field, schema = model.model_fields[name], _schemas(model)[name]
    kind: Any = _KINDS.get(schema.get("type"), str)
    if "enum" in schema:
        kind = Literal[tuple(schema["enum"])]
    default: Any = Parameter.empty
    if not field.is_required():
        default = field.get_default()
        if default is None or kind == list[str]:
            kind, default = kind | None, None
    return options.option_of(name, kind, _asked(field), default=default)


@cache
def _schemas(model: "type[BaseModel]") -> Mapping[str, Any]:
    """The JSON schema of each field; of one that may be null, that of its values."""
    properties = model.model_json_schema()["properties"]
    return {name: schema.get("anyOf", [schema])[0] for name, schema in properties.items()}


def _asked(field: "FieldInfo") -> Asked:
    marks = (mark for mark in field.metadata if isinstance(mark, Asked))
    return next(marks, Asked(field.description or field.title or ""))


def _name(name: str, field: "FieldInfo") -> str:
    """Name of the option or argument that gives a field."""
    option = _asked(field)
    return name.upper() if option.argument else option.option or options.option_name(name)


def _read_fields(model: "type[BaseModel]", values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a request by field.

    Raises:
        BadParameter: names the option.
    """
    from dingrelay_tasks.person_fields import paths_of

    fields: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        value, option, schema = values[name], _name(name, field), _schemas(model)[name]
        if value is None:
            continue
        if name in paths_of(model):
            value = options.userid(value, option, app_of_jobs(), left=False)
        elif schema.get("format") == "date-time":
            value = (options.read_past if _asked(field).past else options.read_moment)(
                value, option
            )
        elif schema.get("type") == "object":
            value = options.read_json(value, option)
        fields[name] = options.split(value) if isinstance(value, list) else value
    return fields
