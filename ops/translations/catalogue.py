"""The catalogue of translations: what is in the code goes into the ``.po``, and that into the ``.mo``.

Three kinds of texts are found without anybody having to list them:

* a command's own words, which are given to `tr` as literals;
* what ``--help`` shows, from the live tree of commands, so that no new one can be forgotten;
* sentences that are made in English where no person is near, as errors, hints and reasons are: every
  text of more than a word, outside what is not told to people. An f-string becomes a template.
"""

import ast
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from dingrelay_producers.cli.reader_language import TEXTS
from dingrelay_producers.language import SENTENCE

ROOT = Path(__file__).parents[2]
LOCALE = "zh_CN"
PO = ROOT / f"producers/dingrelay_producers/locale/{LOCALE}/LC_MESSAGES/dingrelay.po"
MO = PO.with_suffix(".mo")

HEADER = (
    "# Texts of the command line and of the HTTP gateway. `make translations` keeps it up to date."
)

FOLDERS = ("tasks", "producers", "workers", "ops/demo")

SILENT = (
    "producers/dingrelay_producers/cli/reader_language.py",
    "producers/dingrelay_producers/client/media_form.py",
    "producers/dingrelay_producers/events/",
    "producers/dingrelay_producers/gateway/campaigns/routes.py",
    "producers/dingrelay_producers/gateway/docs/",
    "producers/dingrelay_producers/gateway/drop_in/",
    "producers/dingrelay_producers/stream/ticket.py",
    "producers/dingrelay_producers/testing/",
    "producers/dingrelay_producers/tracing/provider.py",
    "producers/dingrelay_producers/tracing/spans.py",
    "workers/dingrelay_workers/campaigns/staging.py",
    "workers/dingrelay_workers/celery_worker/",
    "workers/dingrelay_workers/database/database.py",
    "workers/dingrelay_workers/dingtalk/contact",
    "workers/dingrelay_workers/dingtalk/lenient.py",
    "workers/dingrelay_workers/flower/pages.py",
    "workers/dingrelay_workers/maintenance/",
    "workers/dingrelay_workers/metrics.py",
    "workers/dingrelay_workers/migrations/",
    "ops/demo/",
)
"""Where texts are for logs, for the OpenAPI document, for DingTalk's own clients, for SQL, or for whoever
changes the code."""

DOCUMENTED = "producers/dingrelay_producers/gateway/"
"""Where most texts are for the OpenAPI document: only what is raised is told to people."""

SHOWN = ("/cli/", "/commands/", "/embedded/", "ops/demo/")
"""Where files show things to people."""

BUGS = {
    "AssertionError",
    "AttributeError",
    "KeyError",
    "NotImplementedError",
    "RuntimeError",
    "TypeError",
}
"""What is raised only where a program is wrong."""

NOT_TOLD = BUGS | {
    "Argument",
    "Counter",
    "Field",
    "Gauge",
    "Option",
    "Typer",
    "add_column",
    "command",
    "compile",
    "execute",
    "exec_driver_sql",
    "getLogger",
    "span",
    "text",
    "tr",
}
"""Calls whose texts are for programs, or are found elsewhere."""

TAKERS = {"FieldError", "Kind", "Problem", "at", "invalid", "unavailable"}
"""Calls of the gateway whose texts are told."""

NAMES = {"detail", "hint", "problem", "told", "wanted", "what", "why"}
"""Variables of the gateway that hold what is told."""

LEAVINGS = {
    "ApprovalRef({id}, app={app})",
    "The job has ended within `wait`, however it ended.",
    "The job is accepted.",
    "The key.",
    "Value error, ",
    "You're running the worker with superuser privileges",
    "a request can't be read: {name}",
    "Broken pipe",
    "api keys",
    "approvals {app}",
    "bold green",
    "closed by server",
    'dingrelay send --to u1,u2 --text "你好" --wait',
    "dingrelay webhook secret\n{endpoint}\n{number}",
    "dingrelay {value}",
    "dingtalk {app} agent id",
    "dingtalk {app} credentials",
    "dingtalk {app}",
    "dingtalk {app} {name}",
    "dingrelay: {error}",
    "endpoint away",
    "ends of jobs",
    "gateway listening on",
    "local {key} = {value}",
    "no Sentinel names a primary {name}",
    "reset by peer",
    "unexpectedly closed",
    "unknown error",
    "{kind} app={app} lane=bulk {id}/{number} to {value} users",
    "{value} {campaign} {value2} calls",
    "{value} {campaign}/{number} to {recipients} users",
}
"""What looks like a sentence that a person is told, and is none: code, patterns, texts for logs, and summaries
of jobs, which are the same for everybody."""

LIBRARIES = (
    "(deprecated) ",
    "[default: {}]",
    "[env var: {}]",
    "[required]",
    "(dynamic)",
    "Arguments",
    "Options",
    "Commands",
    "Error",
    "Aborted.",
    "Aborted!",
    "Try [blue]'{command_path} {help_option}'[/] for help.",
    "Missing command.",
    "No such command {name!r}.",
    "default: {default}",
    "env var: {var}",
    "required",
    "Show this message and exit.",
    "Install completion for the current shell.",
    "Show completion for the current shell, to copy it or customize the installation.",
    "Usage: ",
)
"""What typer asks gettext for, or what we ask for it."""

LIBRARY_ERRORS = (
    "No such command {name}.",
    "Missing command.",
    "Invalid value: {message}",
    "Invalid value for {hint}: {message}",
    "Missing option {hint}.",
    "Missing argument {hint}.",
    "Missing option {hint}. {message}",
    "Missing argument {hint}. {message}",
    "Missing parameter: {name}",
    "No such option: {name}",
    "No such option: {name} (Possible options: {options})",
    "No such option: {name} Did you mean {options}?",
    "No such command {name}. Did you mean {names}?",
    "Got unexpected extra argument ({arguments})",
    "Got unexpected extra arguments ({arguments})",
    "Got unexpected extra argument(s) ({arguments})",
    "Option {name} requires an argument.",
    "Option {name} requires {number} arguments.",
    "Option {name} does not take a value.",
    "Argument {name} takes {number} values.",
    "Could not open file {name}: {message}",
    "{value} is not a valid integer.",
    "{value} is not a valid float.",
    "{value} is not a valid boolean.",
    "{value} is not one of {choices}.",
    "{value} is not in the range {range}.",
    "Directory {name} is a file.",
    "File {name} does not exist.",
    "Directory {name} does not exist.",
    "Choose from: {choices}",
    "No such file or directory",
    "Input should be a valid integer, unable to parse string as an integer",
    "Input should be a valid number, unable to parse string as a number",
    "Input should be a valid boolean, unable to interpret input",
    "Input should be greater than or equal to {bound}",
    "Input should be less than or equal to {bound}",
    "Input should be greater than {bound}",
    "Input should be less than {bound}",
    "Input should be {choices} or {last}",
    "Input should be {choice}",
    "Is a directory",
    "Not a directory",
    "Permission denied",
    "Address already in use",
    "Cannot assign requested address",
    # rules that have numbers for most of their words
    "{limit} calls in {window} s",
    "{limit} recipients in {window} s",
)
"""What typer and the system tell in English, and what no rule finds."""


VALUES = (
    "settings",
    "traces",
    "backups",
    "broker",
    "workers",
    "database",
    "dingtalk",
    "credentials",
    "contacts",
    "approvals",
    "permitted",
    "accepted",
    "userid",
    "task_id",
    "sandbox",
    "gateway",
    "events",
    "data",
    "key",
    "d",
    "s",
    "h",
    "min",
    "calls",
    "recipients",
    "job",
    "event",
    "look",
    "delivered",
    "read",
    "unread",
    "invalid",
    "forbidden",
    "failed",
)
"""Values that are told as a word: what the doctor looks at, columns of a CSV, what `dingrelay up` runs, units, where an approval's state is known from,
what became of a message."""


class Text(NamedTuple):
    """A text in English, and the file or the command that has it.

    Attributes:
        context: `SENTENCE` for what is said again by `translated`, None for what is given to `tr`.
    """

    message: str
    place: str
    context: str | None = None


def texts() -> Iterator[Text]:
    """Every text that a translation is needed for; some come more than once."""
    for message in LIBRARIES:
        yield Text(message, "libraries")
    for message in LIBRARY_ERRORS:
        yield Text(message, "libraries", SENTENCE)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from of_file(path)
    for message in VALUES:
        yield Text(message, "values")
    yield from of_help()


def of_file(path: Path) -> Iterator[Text]:
    """What a file gives to `tr`, and its sentences."""
    place = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for literal in _given(node, shown=any(folder in place for folder in SHOWN)):
            yield Text(literal, place)
    if place.startswith(SILENT):
        return
    passed = set(_not_told(tree))
    roots = _told_by_gateway(tree) if place.startswith(DOCUMENTED) else (tree,)
    for part in (part for root in roots for part in ast.walk(root)):
        if (
            part not in passed
            and (sentence := (template(part) or "").rstrip("\n"))
            and is_sentence(sentence)
        ):
            yield Text(sentence, place, SENTENCE)


def of_help() -> Iterator[Text]:
    """What ``--help`` of each command shows."""
    from typer.main import get_group  # noqa: PLC0415  # the extraction alone needs the commands

    from dingrelay_producers.cli import app  # noqa: PLC0415

    yield from _of_command(get_group(app), "dingrelay")


def _of_command(command: Any, place: str) -> Iterator[Text]:
    for part in (command, *command.params):
        for name in TEXTS:
            message = vars(part).get(name)
            if isinstance(message, str) and any(map(str.isalpha, message)):
                yield Text(message, place)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _of_command(command.get_command(None, name), f"{place} {name}")


def template(node: ast.AST) -> str | None:
    """A string as it is written; an f-string with a name for each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    told, names = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            told += str(part.value).replace("{", "{{").replace("}", "}}")
        elif isinstance(part, ast.FormattedValue):
            name = _name(part.value).strip("_") or "value"
            if name in names:
                name += str(len(names))
            names.append(name)
            told += f"{{{name}}}"
    return told


def is_sentence(text: str) -> bool:
    """Whether it is made of words, and more than a name or a format."""
    bare = "".join(
        part.partition("}")[2] if "{" in text else part for part in ("}" + text).split("{")
    )
    words = [word for word in bare.replace("-", " ").split() if word.strip(".,:;()'\"").isalpha()]
    told = not (
        text in LEAVINGS
        or all(word.startswith("--") for word in text.split())
        or " | " in text  # a type
        or re.search("%[a-z]", text)  # a log's
        or text.startswith(("^", "API §"))
        or re.match("(BEGIN|CREATE|DELETE|INSERT|PRAGMA|SELECT|UPDATE) ", text)
    )
    return told and " " in text.strip() and any(len(word) > 2 for word in words)


def _told_by_gateway(tree: ast.AST) -> Iterator[ast.AST]:
    """What is raised, with the variables that it is put together in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) or (
            isinstance(node, ast.Call) and _name(node.func) in TAKERS
        ):
            yield node
        elif isinstance(node, ast.Assign) and not NAMES.intersection(*map(_names, node.targets)):
            continue
        elif isinstance(node, ast.Assign | ast.AugAssign | ast.Return) and node.value:
            yield node.value


def _not_told(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of what no person is told."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant() as alone):  # a docstring, also of an attribute
                yield alone
            case ast.JoinedStr(values=values):
                yield from (part for part in values if isinstance(part, ast.Constant))
            case ast.Assert(msg=ast.AST() as message):
                yield from ast.walk(message)
            case ast.arg(annotation=ast.AST() as note) | ast.AnnAssign(annotation=note):
                yield from ast.walk(note)
            case ast.FunctionDef(returns=note) | ast.AsyncFunctionDef(returns=note) if note:
                yield from ast.walk(note)
            case ast.Call(func=function, args=arguments) if _name(function) == "Row":
                yield from (part for each in arguments[:3] for part in ast.walk(each))
            case ast.Call(func=function) if _name(function) in NOT_TOLD:
                yield from ast.walk(node)
            case _:
                pass


def _given(node: ast.AST, *, shown: bool) -> Iterator[str]:
    """What a node gives to `tr`, where it is given by a literal.

    Args:
        node: any.
        shown: whether it is in a file that shows things to people: other files have columns, too.
    """
    if isinstance(node, ast.Call) and node.args:
        if _name(node.func) == "tr" or (shown and _name(node.func) == "Column"):
            yield from _literals(node.args[0])
    elif isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple) and _gives_target(node):
        for each in node.iter.elts:
            yield from _literals(each.elts[0] if isinstance(each, ast.Tuple) else each)


def _gives_target(loop: ast.For) -> bool:
    """Whether a loop gives what it walks over to `tr`."""
    targets = set(_names(loop.target))
    calls = (node for node in ast.walk(loop) if isinstance(node, ast.Call))
    return any(_name(call.func) == "tr" and _name(call.args[0]) in targets for call in calls)


def _names(target: ast.AST) -> list[str]:
    return [name for part in ast.walk(target) if (name := _name(part))]


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""


def _literals(node: ast.AST) -> Iterator[str]:
    """A literal, or each of those of which a condition chooses one."""
    if isinstance(node, ast.IfExp):
        yield from (*_literals(node.body), *_literals(node.orelse))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def extracted() -> Catalog:
    """All texts of the code, without translations."""
    catalogue = new()
    places: dict[tuple[str, str | None], str] = {}
    for message, place, context in texts():
        places.setdefault((message, context), place)
    for (message, context), place in places.items():
        catalogue.add(message, locations=[(place.replace(" ", "-"), None)], context=context)
    for message in catalogue:
        # A brace is no sign of Python's: the values are checked by our own test.
        message.flags.discard("python-brace-format")
        message.flags.discard("python-format")
    return catalogue


class _Catalogue(Catalog):
    """A catalogue whose head has no dates and no version of Babel: each would be a conflict of two changes."""

    mime_headers = property(  # type: ignore[assignment]
        lambda self: [
            ("Language", LOCALE),
            ("MIME-Version", "1.0"),
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Transfer-Encoding", "8bit"),
            ("Plural-Forms", "nplurals=1; plural=0;"),
        ]
    )


def new() -> Catalog:
    """A catalogue without texts."""
    return _Catalogue(locale=LOCALE, domain="dingrelay", header_comment=HEADER, fuzzy=False)


def stored() -> Catalog:
    """The catalogue as it stands."""
    if not PO.exists():
        return new()
    with PO.open("rb") as file:
        return read_po(file, locale=LOCALE, domain="dingrelay")


def updated() -> Catalog:
    """The texts of the code, with the translations that there are."""
    known, catalogue = stored(), extracted()
    for message in catalogue:
        other = None if message.context else SENTENCE
        for context in (message.context, other):
            same = known.get(message.id, context) if message.id else None
            if same and same.string:
                message.string = same.string
                break
    return catalogue


def po(catalogue: Catalog) -> bytes:
    """The catalogue as it is stored, in an order that a change elsewhere leaves as it is."""
    file = io.BytesIO()
    write_po(file, catalogue, sort_output=True, width=110)
    return file.getvalue()


def mo(catalogue: Catalog) -> bytes:
    """The catalogue as gettext reads it."""
    plain = new()
    for message in catalogue:
        if message.id:
            plain.add(message.id, message.string, context=message.context)
    file = io.BytesIO()
    write_mo(file, plain)
    return file.getvalue()


def main() -> None:
    """Bring both files up to date, and tell what is to be translated."""
    catalogue = updated()
    PO.parent.mkdir(parents=True, exist_ok=True)
    PO.write_bytes(po(catalogue))
    MO.write_bytes(mo(stored()))
    missing = [message.id for message in catalogue if message.id and not message.string]
    print(f"{len(catalogue)} texts, {len(missing)} without a translation")
    for text in missing:
        print(f"  {text!r}")


if __name__ == "__main__":
    main()
