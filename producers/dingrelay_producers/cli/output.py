"""Output of commands: colours and tables for people, JSON for programs, and the exit code."""

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import typer

from dingrelay_producers.client.outcomes import NOT_REACHED, OUTCOMES
from dingrelay_producers.exit_codes import DONE, NOT_ENDED, OTHERWISE, UNREACHABLE, USAGE
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import State
from dingrelay_producers.time_spans import length
from dingrelay_producers.zone import local
from dingrelay_tasks.sentence import en

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from dingrelay_producers.client.history_documents import JobDetails
    from dingrelay_producers.store.status import JobError, JobStatus, WaitsFor

_EXTRAS = ("worker", "flower", "postgres", "oidc", "demo")
"""Extras that bring packages which commands need: of several that bring one the first is named."""
_REQUIREMENT = re.compile(r"([\w-]+).*extra == ['\"](\w+)")

PIPED_COLUMNS = 200
"""Width of tables that no terminal shows: wide enough to cut nothing that matters."""

COLOURS = {
    State.QUEUED: "cyan",
    State.RUNNING: "blue",
    State.SNOOZED: "yellow",
    State.RETRYING: "yellow",
    State.DONE: "green",
    State.DEAD: "red",
    State.UNKNOWN: "magenta",
    State.CANCELLED: "dim",
    State.EXPIRED: "dim",
    State.DUPLICATE: "dim",
}


def console(*, stderr: bool = False) -> "Console":
    """The console for human-readable output."""
    from rich.console import Console

    from dingrelay_producers.cli.reader_language import allow_between_characters

    allow_between_characters()
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False)


def note(sentence: str, *, style: str) -> None:
    """Say something beside the result: whole words within the terminal, one line where none is."""
    err = console(stderr=True)
    err.print(styled(sentence, style), soft_wrap=not err.is_terminal)


def say(sentence: str) -> None:
    """Print a sentence: whole words within the terminal, one line where none is."""
    if sys.stdout.isatty():
        console().print(sentence, markup=False)
    else:
        typer.echo(sentence)  # a script has no use for rich, which takes a while to load


def styled(text: str, style: str = "") -> "Text":
    """A text with its colour."""
    from rich.text import Text

    return Text(text, style=style)


as_json = ContextVar("as_json", default=False)
"""Whether the present command prints JSON for programs."""


def print_result(document: Any, page: "Callable[[], RenderableType | None]") -> None:
    """Print a command's result: JSON for programs, a page for people.

    Args:
        document: any value that JSON has, and documents in it.
        page: makes what a person sees; None if it has printed that itself.
    """
    if as_json.get():
        print_json(document)
    elif isinstance(shown := page(), str):
        say(shown)
    elif shown is not None:
        console().print(shown, markup=False)


def print_secret(document: Any, secret: str, advice: str) -> None:
    """Print a secret that is shown this once: alone on standard output, so that it can be piped."""
    if as_json.get():
        print_json(document)
        return
    typer.echo(secret)
    note(advice, style="dim")


def print_json(value: Any) -> None:
    """One JSON value on one line; characters that the terminal has not are spelled as JSON spells them."""
    text = json.dumps(value, ensure_ascii=False, default=_values_of)
    typer.echo(text if can_print(text) else json.dumps(value, default=_values_of))


def _values_of(document: "BaseModel") -> dict[str, Any]:
    return document.model_dump(mode="json", by_alias=True)


@contextmanager
def output_file(
    name: str, option: str, encoding: str | None = "utf-8", *, private: bool = False
) -> Generator[Callable[[Iterable[Any]], None]]:
    """Yields a writer of text or bytes; the file appears once the block ends, and only complete.

    Args:
        name: of the file, or of a device such as ``/dev/stdout``.
        option: which names it.
        encoding: of the text; None for bytes.
        private: only this user may read the file, and it replaces none.

    Raises:
        BadParameter: it can't be written, such as on a full disk.
    """
    path = Path(name)
    is_device = path.exists() and not path.is_file()
    path = path if is_device else path.resolve()
    part = path if is_device else path.with_name(f"{path.name}.{os.getpid()}.part")

    @contextmanager
    def explained() -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise typer.BadParameter(
                translated(en("{}: {}", name, error.strerror)),
                param_hint=option,
            ) from None

    def write(lines: Iterable[Any]) -> None:
        with explained():
            file.writelines(lines)

    with explained():
        if private and path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        file = open(  # noqa: SIM115 - a full disk may be found out when it is closed
            part,
            "wb" if encoding is None else "w",
            encoding=encoding,
            newline=None if encoding is None else "",
            opener=partial(os.open, mode=0o600) if private else None,
        )
    try:
        yield write
        with explained():
            file.close()
            if not is_device:
                part.replace(path)
    finally:
        with suppress(OSError):
            file.close()
        if not is_device:
            part.unlink(missing_ok=True)


def can_print(text: str) -> bool:
    """Whether standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_job(status: "JobStatus") -> None:
    """One job, with what to do if it failed."""
    print_result(status, lambda: _job(status))


NAMED_PEOPLE = 20
"""People of one outcome who are named; JSON has all."""


def print_details(details: "JobDetails") -> None:
    """One job with its key and its people."""
    more = {"key": details.key, "recipients": dict(details.recipients)}
    document = details.status.to_json() | {name: value for name, value in more.items() if value}
    print_result(document, lambda: _details(details))


def _details(details: "JobDetails") -> "Table":
    grid = _job(details.status)
    if details.key:
        grid.add_row(tr("key"), details.key)
    titles = {"waiting": tr("waiting"), "not_sent": tr("not sent"), "accepted": tr("accepted")}
    by_outcome: dict[str, list[str]] = {}
    for user, outcome in details.recipients.items():
        by_outcome.setdefault(outcome, []).append(user)
    for outcome, users in by_outcome.items():
        grid.add_row(titles.get(outcome, outcome), _names_of(users))
    return grid


def _names_of(people: Sequence[str]) -> str:
    names = ", ".join(people[:NAMED_PEOPLE])
    more = len(people) - NAMED_PEOPLE
    return tr("{named} and {more:,} more", named=names, more=more) if more > 0 else names


def _not_reached(result: Mapping[str, Any]) -> str:
    """A line for each reason why people of a message did not get it."""
    lines: list[str] = []
    for outcome in NOT_REACHED:
        entries = result.get(outcome)
        if isinstance(entries, list) and entries:
            # An address, or a person with DingTalk's code, is an object.
            people = [
                next(iter(entry.values())) if isinstance(entry, dict) else entry
                for entry in entries
            ]
            lines.append(
                f"{_names_of(list(map(str, people)))}: {translated(OUTCOMES[outcome].reason)}"
            )
    return "\n".join(lines)


def state_text(state: State) -> "Text":
    """A state in its colour."""
    return styled(state, COLOURS[state])


def page_of(*fields: "tuple[str, str | Text | datetime | None]") -> "Table":
    """A page for one thing: a title and a value, which is not cut, in each row; those without one are left out."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for title, value in fields:
        if value:
            shown = local(value) if isinstance(value, datetime) else value
            grid.add_row(title, _text(shown))
    return grid


def _job(status: "JobStatus") -> "Table":
    settled = due = result = resolved = accepted = None
    error = status.error
    if status.due_at and not status.state.ended:
        due = f"{local(status.due_at)}{_from_now(status.due_at)}"
    if status.settled_at:
        took = (status.settled_at - status.created_at).total_seconds()
        settled = tr("{moment}, after {took:.2f} s", moment=local(status.settled_at), took=took)
    if status.result is not None:
        # A message's result has a list for each reason why users were not reached; most are empty.
        shown = {name: value for name, value in status.result.items() if value != []}
        result = json.dumps(shown, ensure_ascii=False)
        if isinstance(shown.get("accepted"), int):
            accepted = tr("{people:,} people", people=shown["accepted"])
    if status.resolved:
        resolved = tr(
            "{verdict}, said{who} at {moment}",
            verdict=tr("it happened") if status.resolved.happened else tr("it did not happen"),
            who=tr(" by {by}", by=status.resolved.by) if status.resolved.by else "",
            moment=local(status.resolved.at),
        )
    return page_of(
        (tr("state"), state_text(status.state)),
        (tr("id"), status.id),
        (tr("job"), f"{status.kind} app={status.app} lane={status.lane}"),
        (tr("sender"), status.sender),
        (
            tr("attempts"),
            tr(
                "{attempts}, throttled {throttles} times",
                attempts=status.attempts,
                throttles=status.throttles,
            ),
        ),
        (tr("created"), status.created_at),
        (tr("waiting for"), _awaited(status.waits_for) if status.waits_for else None),
        (tr("next run"), due),
        (tr("settled"), settled),
        (tr("accepted"), accepted),
        (tr("result"), result),
        (tr("not reached"), _not_reached(status.result or {})),
        (tr("resolved"), resolved),
        (tr("error"), _error(error) if error else None),
        *(
            (
                tr("may be"),
                f"{candidate.id} {candidate.title} {candidate.created}\n{candidate.link}",
            )
            for candidate in (error.candidates if error else ())
        ),
        (tr("hint"), styled(translated(error.hint), "bold") if error else None),
    )


def _awaited(awaited: "WaitsFor") -> str:
    match awaited.what:
        case "api":
            return tr("{name}, which is out", name=awaited.name)
        case "host":
            return tr("DingTalk ({name}), which is out", name=awaited.name)
        case "app":
            return tr("app {name}, which is held", name=awaited.name)
        case "pause":
            return tr("the end of the pause of {name}", name=awaited.name)


def _error(error: "JobError") -> "Text":
    name = f"{error.error_class} {error.prefix}".rstrip()
    return styled(f"{name}: {translated(error.message)}", "red")


def _from_now(moment: datetime) -> str:
    seconds = (moment - clock.now()).total_seconds()
    return tr(", in {length}", length=length(seconds)) if seconds >= 1 else ""


GAP = 2
"""Characters between two columns."""
READABLE = 16
"""Characters of a text that may be cut which are worth a column."""


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """One column of a list.

    Attributes:
        title: its head, in English.
        cell: what it shows of a row.
        rank: 0 for what is always shown; of the others the highest is left out first.
        right: whether it is flush right, as numbers are.
        cut: whether it may be cut at its end; others are folded where even the last ones have no room.
    """

    title: str
    cell: "Callable[[Row], Text | str]"
    rank: int = 0
    right: bool = False
    cut: bool = False


def print_table(rows: Iterable[Row], *columns: Column[Row], empty: str = "") -> None:
    """Print a list, or that it is empty."""
    from rich.table import Table

    texts = [[_text(column.cell(row)) for column in columns] for row in rows]
    if not texts:
        console(stderr=True).print(empty or tr("none"), style="dim")
        return
    out = console()
    shown = fitting(columns, texts, out.width)
    widths = {number: _width(columns[number], number, texts) for number in shown}
    spare = out.width - sum(width + GAP for width in widths.values()) + GAP
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, width in widths.items():
        column = columns[number]
        table.add_column(
            tr(column.title),
            justify="right" if column.right else "left",
            overflow="ellipsis" if column.cut else "fold",
            no_wrap=column.cut,
            # Where there is no room at all, rich folds what it has to.
            width=width if spare >= 0 and not column.cut else None,
            max_width=width + max(0, spare) if column.cut else None,
        )
    for row in texts:
        table.add_row(*(row[number] for number in shown))
    out.print(table)


def fitting(
    columns: Sequence[Column[Any]], rows: "Sequence[Sequence[Text]]", available: int
) -> Sequence[int]:
    """The columns that fit into the width, by index."""
    shown = list(range(len(columns)))
    widths = [_width(column, number, rows) for number, column in enumerate(columns)]
    while sum(widths[number] + GAP for number in shown) - GAP > available:
        least = max(shown, key=lambda number: columns[number].rank)
        if not columns[least].rank:
            break
        shown.remove(least)
    return shown


def _text(cell: "Text | str") -> "Text":
    return styled(cell) if isinstance(cell, str) else cell


def _width(column: Column[Any], number: int, rows: "Sequence[Sequence[Text]]") -> int:
    from rich.cells import cell_len

    longest = max((cell_len(row[number].plain) for row in rows), default=0)
    if column.cut:
        longest = min(longest, READABLE)
    return max(cell_len(tr(column.title)), longest)


def exit_code_of(state: State) -> int:
    """The exit code for a job in this state."""
    return DONE if state == State.DONE else OTHERWISE


def explain(error: Exception, *, command: str) -> tuple[int, str] | None:
    """Exit code and sentence for what a command raised; None if it is a bug or not ours."""
    if isinstance(error, ModuleNotFoundError):
        return _missing_extra(error, command)
    from dingrelay_producers import errors
    from dingrelay_producers.settings import SettingsError
    from dingrelay_tasks.contract import ContractError
    from dingrelay_tasks.packaged_kinds import KindError

    for code, kinds in (
        (
            USAGE,
            (ContractError, SettingsError, KindError, errors.InvalidArgument, errors.NotInstalled),
        ),
        (USAGE, (errors.ObjectNotFound, errors.Conflict, errors.CannotResolve)),
        (OTHERWISE, (errors.UploadFailed,)),
        (NOT_ENDED, (errors.WaitTimeout,)),
        (UNREACHABLE, (errors.ServiceUnavailable, errors.UnreadableRecord)),
    ):
        if isinstance(error, kinds):
            return code, str(error)
    return None


def _missing_extra(error: ModuleNotFoundError, command: str) -> tuple[int, str] | None:
    module = (error.name or "").partition(".")[0]
    from importlib.metadata import requires

    requirements = filter(None, map(_REQUIREMENT.match, requires("dingrelay") or ()))
    bringing = {
        requirement[2] for requirement in requirements if requirement[1].replace("-", "_") == module
    }
    # A command that has an extra of its own needs no other one's packages.
    extra = next((name for name in (command, *_EXTRAS) if name in bringing), None)
    if extra is None:
        return None
    from dingrelay_producers.installation import how_to_add

    needs = tr("dingrelay {command} needs {module}", command=command, module=module)
    return USAGE, tr(
        "{needs}, which is not installed: {command}",
        needs=needs,
        command=translated(how_to_add(extra)),
    )
