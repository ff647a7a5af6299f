"""Finds the texts that a translation is needed for, in the code and in the commands' help.

Three kinds of texts are found without anybody having to list them:

* a command's own words, which are given to `tr` as literals;
* what ``--help`` shows, from the live tree of commands, so that no new one can be forgotten;
* sentences that are made in English where no person is near, as errors, hints and reasons are: every
  text of more than a word, outside what is not shown to people. An f-string becomes a template.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dingrelay_producers.cli.reader_language import TEXTS
from dingrelay_producers.language import SENTENCE
from listed import LIBRARIES, LIBRARY_ERRORS, NOT_SENTENCES, VALUES

ROOT = Path(__file__).parents[2]


FOLDERS = ("tasks", "producers", "workers", "ops/demo")
SILENT = (
    "producers/dingrelay_producers/cli/group.py",
    "producers/dingrelay_producers/cli/reader_language.py",
    "producers/dingrelay_producers/events/",
    "producers/dingrelay_producers/stream/ticket.py",
    "producers/dingrelay_producers/testing/",
    "producers/dingrelay_producers/tracing/provider.py",
    "producers/dingrelay_producers/tracing/spans.py",
    "workers/dingrelay_workers/campaigns/documents.py",
    "workers/dingrelay_workers/campaigns/routes.py",
    "workers/dingrelay_workers/campaigns/staging.py",
    "workers/dingrelay_workers/celery_worker/",
    "workers/dingrelay_workers/database/database.py",
    "workers/dingrelay_workers/dingtalk/contact",
    "workers/dingrelay_workers/directory/sync_schedule.py",
    "workers/dingrelay_workers/flower/server.py",
    "workers/dingrelay_workers/gateway/docs.py",
    "workers/dingrelay_workers/gateway/openapi.py",
    "workers/dingrelay_workers/gateway/drop_in/",
    "workers/dingrelay_workers/maintenance/",
    "workers/dingrelay_workers/metrics.py",
    "workers/dingrelay_workers/migrations/",
    "workers/dingrelay_workers/webhooks/deliveries.py",
    "ops/demo/",
)
"""Where texts are for logs, for the OpenAPI document, for DingTalk's own clients, for SQL, or for the one who
changes the code."""
DOCUMENTED = ("workers/dingrelay_workers/gateway/", "workers/dingrelay_workers/http/")
ROUTES = ("/handlers.py", "/request.py", "/routes.py")
"""Where most texts are for the OpenAPI document: people see only what is raised."""
SHOWN = ("/cli/", "/cli.py", "/cli_", "/commands.py", "/embedded/", "ops/demo/")
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
NOT_SHOWN = BUGS | {
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
TAKERS = {"FieldError", "ProblemKind", "Problem", "at", "invalid", "unavailable"}
"""Calls of the gateway whose texts are shown."""
NAMES = {"_refusal", "detail", "hint", "problem", "wanted", "what", "why"}
"""Variables of the gateway that hold what is shown."""


class Text(NamedTuple):
    """A text in English.

    Attributes:
        context: `SENTENCE` for what is said again by `translated`, None for what is given to `tr`.
    """

    message: str
    context: str | None = None


def texts() -> Iterator[Text]:
    """Every text that a translation is needed for; some come more than once."""
    for message in LIBRARIES:
        yield Text(message)
    for message in LIBRARY_ERRORS:
        yield Text(message, SENTENCE)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from of_file(path)
    for message in VALUES:
        yield Text(message)
    yield from of_help()
    yield from of_gateway()


def of_file(path: Path) -> Iterator[Text]:
    """What a file gives to `tr`, and its sentences."""
    place = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        for literal in _given(node, shown=any(folder in place for folder in SHOWN)):
            yield Text(literal)
    if place.startswith(SILENT):
        return
    passed = set(_not_shown(tree))
    roots = (
        _shown_by_gateway(tree)
        if place.startswith(DOCUMENTED) or place.endswith(ROUTES)
        else (tree,)
    )
    for part in (part for root in roots for part in ast.walk(root)):
        if (
            part not in passed
            and (sentence := (template(part) or "").rstrip("\n"))
            and is_sentence(sentence)
        ):
            yield Text(sentence, SENTENCE)


def of_gateway() -> Iterator[Text]:
    """What the gateway's page shows."""
    # The extraction alone needs the routes.
    from dingrelay_workers.gateway.docs import TEXTS as OF_PAGE  # noqa: PLC0415
    from dingrelay_workers.gateway.openapi import TAGS  # noqa: PLC0415
    from dingrelay_workers.gateway.table import ROUTES as OPERATIONS  # noqa: PLC0415

    for message in (*OF_PAGE, *TAGS.values(), *(route.summary for route in OPERATIONS)):
        yield Text(message, SENTENCE)


def of_help() -> Iterator[Text]:
    """What ``--help`` of each command shows."""
    from typer.main import get_group  # noqa: PLC0415  # the extraction alone needs the commands

    from dingrelay_producers.cli import app  # noqa: PLC0415

    yield from _of_command(get_group(app))


def _of_command(command: Any) -> Iterator[Text]:
    for part in (command, *command.params):
        for name in TEXTS:
            message = vars(part).get(name)
            if isinstance(message, str) and any(map(str.isalpha, message)):
                yield Text(message)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _of_command(command.get_command(None, name))


def template(node: ast.AST) -> str | None:
    """A string as it is written; an f-string with a name for each value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if not isinstance(node, ast.JoinedStr):
        return None
    text, names = "", []
    for part in node.values:
        if isinstance(part, ast.Constant):
            text += str(part.value).replace("{", "{{").replace("}", "}}")
        elif isinstance(part, ast.FormattedValue):
            name = _name(part.value).strip("_") or "value"
            if name in names:
                name += str(len(names))
            names.append(name)
            text += f"{{{name}}}"
    return text


def is_sentence(text: str) -> bool:
    """Whether it is made of words, and more than a name or a format."""
    bare = "".join(
        part.partition("}")[2] if "{" in text else part for part in ("}" + text).split("{")
    )
    words = [word for word in bare.replace("-", " ").split() if word.strip(".,:;()'\"").isalpha()]
    shown = not (
        text in NOT_SENTENCES
        or all(word.startswith("--") for word in text.split())
        or " | " in text  # a type
        or re.search("%[a-z]", text)  # a log's
        or text.startswith(("^", "API §", "local "))  # "local" begins Lua
        or re.match("(BEGIN|CREATE|DELETE|GET|INSERT|POST|PRAGMA|SELECT|UPDATE) ", text)
    )
    return shown and " " in text.strip() and any(len(word) > 2 for word in words)


def _shown_by_gateway(tree: ast.AST) -> Iterator[ast.AST]:
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


def _not_shown(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of what is shown to no person."""
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
            case ast.Call(func=function) if _name(function) in NOT_SHOWN:
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
