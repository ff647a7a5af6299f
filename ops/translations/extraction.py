"""Finds the texts that a translation is needed for: what is marked in the code, and the commands' help.

* `tr`, `_` in templates, `Column` and the demo's `act` and `note` are given a command's own words, `en` is given
  sentences that are made where no person is near; literals, all of them.
* What an error is raised with, or a result says, is a sentence without a mark, if it is a literal.
* What ``--help`` shows comes from the live tree of commands, what ``/docs`` shows from the live routes.
"""

import ast
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dingrelay_producers.cli.reader_language import OF_TYPER, TEXTS, USAGE_ERRORS
from dingrelay_producers.language import SENTENCE

ROOT = Path(__file__).parents[2]
FOLDERS = ("tasks", "producers", "workers", "ops/demo")
OWN_WORDS = {"tr": "", "Column": "cli", "act": "ops/demo", "note": "ops/demo"}
"""Calls whose first argument is a command's own words → where they are."""
SAYING = re.compile(
    "at|AddressRefused|Ambiguous|BrokerSilent|CampaignConflict|CannotResolve|CheckResult|ContractError"
    "|EndpointConflict|ErrorBody|FieldError|InvalidArgument|KeyConflict|LineError|Malformed|Outcome|Problem"
    "|ProblemKind|QuotaExhausted|Receipt|Refused|SchemaProblem|ServiceUnavailable|SettingsError"
    "|StartFailed|Transient|Unknown|UnreadableRecord|UploadFailed|ValueError|Wait|Withdrawn|unavailable"
    "|_conflict|_dead|_kind|_malformed|_unknown|_wait_once"
)
"""Calls whose literals are sentences, if they are more than a name."""
SILENT = ("celery_worker/", "events/", "migrations/", "testing/")
"""Folders whose errors are for the one who changes the code."""
VALUES = re.findall(
    r"\w+",
    "settings robots traces backups broker workers database dingtalk credentials contacts approvals permitted"
    " accepted userid task_id sandbox gateway console events data key s calls recipients job event look"
    " delivered read unread invalid forbidden failed agree refuse comment terminate live expired revoked",
)
"""Values that are shown as a word: what the doctor checks, columns of a CSV, what `dingrelay up` runs, units,
where an approval's state is known from, what became of a message, what is done with an approval, states of a key."""
OF_LIBRARIES = (
    *map(
        os.strerror,
        (errno.EACCES, errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EDQUOT, errno.EEXIST),
    ),
    *map(os.strerror, (errno.EIO, errno.EISDIR, errno.ELOOP, errno.EMFILE, errno.ENAMETOOLONG)),
    *map(os.strerror, (errno.ENFILE, errno.ENODEV, errno.ENOENT, errno.ENOEXEC, errno.ENOSPC)),
    *map(os.strerror, (errno.ENOTDIR, errno.ENXIO, errno.EPERM, errno.EROFS)),
    # Of JSON
    "Expecting property name enclosed in double quotes",
    "Expecting value",
    "Expecting {} delimiter",
    "Extra data",
    "Illegal trailing comma before end of array",
    "Illegal trailing comma before end of object",
    "Invalid \\escape",
    "Invalid \\uXXXX escape",
    "Invalid control character at",
    "Unexpected UTF-8 BOM {}",
    "Unterminated string starting at",
    # Of CSV
    "field larger than field limit {}",
    "line contains NUL",
    "new-line character seen in unquoted field - do you need to open the file with newline={}?",
    "unexpected end of data",
    "{} expected after {}",
    # Of TOML
    "Cannot declare {} twice",
    "Cannot mutate immutable namespace {}",
    "Cannot overwrite a value",
    "Cannot redefine namespace {}",
    "Duplicate inline table key {}",
    "Escaped character is not a Unicode scalar value",
    "Expected newline or end of document after a statement",
    "Expected {}",
    "Expected {} after a key in a key/value pair",
    "Expected {} at the end of a table declaration",
    "Expected {} at the end of an array declaration",
    "Found invalid character {}",
    "Illegal character {}",
    "Invalid date or datetime",
    "Invalid hex value",
    "Invalid initial character for a key part",
    "Invalid statement",
    "Invalid value",
    "Unclosed array",
    "Unclosed inline table",
    "Unescaped {} in a string",
    "Unterminated string",
    # Of SQLite
    "attempt to write a readonly database",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
)
"""Texts of the system about files and addresses, and of Python about texts and temporary files; quoted values are
`{}`."""


class Text(NamedTuple):
    """A text in English.

    Attributes:
        context: `SENTENCE` for what `translated` is given, None for what is given to `tr`.
    """

    message: str
    context: str | None = None


def texts() -> Iterator[Text]:
    """Every text that a translation is needed for; some come more than once."""
    for message in (*OF_TYPER, *USAGE_ERRORS, *VALUES):
        yield Text(message)
    for message in OF_LIBRARIES:
        yield Text(message, SENTENCE)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from of_file(path)
        for path in sorted((ROOT / folder).rglob("templates/*.html")):
            yield from of_template(path)
    yield from of_help()
    yield from of_gateway()


def of_file(path: Path) -> Iterator[Text]:
    """Texts that a file passes to `tr`, and its sentences."""
    place = path.relative_to(ROOT).as_posix()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        if name in OWN_WORDS and node.args and OWN_WORDS[name] in place:
            yield from map(Text, literals(node.args[0]))
        elif name == "en":
            yield from (Text(message, SENTENCE) for message in literals(node.args[0]))
        elif SAYING.fullmatch(name) and not any(each in place for each in SILENT):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                for message in literals(argument):
                    if re.search("[a-z]{2}", message) and " " in message:
                        yield Text(message, SENTENCE)


def of_template(path: Path) -> Iterator[Text]:
    """Texts that a page's template passes to `tr`."""
    from jinja2 import Environment  # noqa: PLC0415  # the extraction alone needs it
    from jinja2.ext import extract_from_ast  # noqa: PLC0415

    for _line, _name, message in extract_from_ast(
        Environment().parse(path.read_text("utf-8")), ("_",)
    ):
        # Of a call with values the text is the first part.
        text, *_ = message if isinstance(message, tuple) else (message,)
        if text is not None:  # it is no literal
            yield Text(text)


def called(call: ast.Call) -> str:
    """The name of what is called, without what it belongs to."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def literals(node: ast.AST) -> Iterator[str]:
    """A literal, or each of those of which a condition chooses one."""
    if isinstance(node, ast.IfExp):
        yield from (*literals(node.body), *literals(node.orelse))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def of_gateway() -> Iterator[Text]:
    """Texts of the gateway's page beside its template."""
    # The extraction alone needs the routes.
    from dingrelay_workers.gateway import openapi  # noqa: PLC0415
    from dingrelay_workers.gateway.server import ROUTES as OPERATIONS  # noqa: PLC0415

    for message in openapi.texts(OPERATIONS):
        yield Text(message, SENTENCE)


def of_help() -> Iterator[Text]:
    """Texts in ``--help`` of each command."""
    from typer.main import get_group  # noqa: PLC0415  # the extraction alone needs the commands

    from dingrelay_producers.cli import app  # noqa: PLC0415

    yield from _of_command(get_group(app))


def _of_command(command: Any) -> Iterator[Text]:
    for part in (command, *command.params):
        for name in TEXTS:
            # As they were before a command spoke another language.
            message = {**vars(part), **vars(part).get("_english", {})}.get(name)
            if isinstance(message, str) and any(map(str.isalpha, message)):
                yield Text(message)
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _of_command(command.get_command(None, name))
