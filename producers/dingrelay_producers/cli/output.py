"""What commands print: colours and tables for people, JSON for programs."""

import errno
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dingrelay_producers.language import ENGLISH, now_spoken, tr, translated
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.history_backend import JobDetails
    from dingrelay_producers.store.status import JobStatus

PIPED_COLUMNS = 200
"""Width of tables that no terminal shows: wide enough to cut nothing that matters."""

UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
"""Units of time and their seconds, the largest first."""

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


def console(*, stderr: bool = False) -> Console:
    """Where a command prints for people."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False)


def note(sentence: str, *, style: str) -> None:
    """Say something beside the result: whole words within the terminal, one line where none is."""
    err = console(stderr=True)
    err.print(Text(sentence, style=style), soft_wrap=not err.is_terminal)


def print_json(value: Any) -> None:
    """One JSON value on one line; characters that the terminal has not are spelled as JSON spells them."""
    text = json.dumps(value, ensure_ascii=False)
    typer.echo(text if can_print(text) else json.dumps(value))


@contextmanager
def output_file(
    name: str, option: str, encoding: str = "utf-8", *, private: bool = False
) -> Generator[Callable[[Iterable[str]], None]]:
    """What writes text into a file, which is there once the block ends, and only as a whole.

    Args:
        name: of the file, or of a device such as ``/dev/stdout``.
        option: which names it.
        encoding: of the text.
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
            raise typer.BadParameter(f"{name}: {error.strerror}", param_hint=option) from None

    def write(lines: Iterable[str]) -> None:
        with explained():
            file.writelines(lines)

    with explained():
        if private and path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        file = open(  # noqa: SIM115 - a full disk may be found out when it is closed
            part,
            "w",
            encoding=encoding,
            newline="",
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


def spreadsheet_encoding() -> str:
    """The encoding of a CSV for people.

    A spreadsheet on a Chinese Windows takes a file without a mark for GBK; ours reads both.
    """
    return "utf-8" if now_spoken() == ENGLISH else "utf-8-sig"


def can_print(text: str) -> bool:
    """Whether standard output has these characters."""
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def print_job(status: "JobStatus", *, as_json: bool) -> None:
    """One job, with what to do if it failed."""
    if as_json:
        print_json(status.to_json())
    else:
        console().print(_job(status))


NAMED_PEOPLE = 20
"""People of one outcome who are named; JSON has all."""


def print_details(details: "JobDetails", *, as_json: bool) -> None:
    """One job with its key and its people."""
    if as_json:
        job = details.status.to_json()
        more = {"key": details.key, "recipients": dict(details.recipients)}
        print_json(job | {name: value for name, value in more.items() if value})
        return
    grid = _job(details.status)
    if details.key:
        grid.add_row(tr("key"), details.key)
    by_outcome: dict[str, list[str]] = {}
    for user, outcome in details.recipients.items():
        by_outcome.setdefault(outcome, []).append(user)
    for outcome, users in by_outcome.items():
        named = ", ".join(users[:NAMED_PEOPLE])
        if len(users) > NAMED_PEOPLE:
            named = tr("{named} and {more:,} more", named=named, more=len(users) - NAMED_PEOPLE)
        grid.add_row(outcome, named)
    console().print(grid)


def state_text(state: State) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS[state])


def length(seconds: float) -> str:
    """A length of time, in the two largest units that it has: ``45 s``, ``3 h 20 min``, ``2 d 4 h``."""
    left = max(0, round(seconds))
    if left < UNITS[-2][1]:
        return tr("{seconds} s", seconds=left)
    parts: list[tuple[int, str]] = []
    for name, size in UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, name))
        if len(parts) == 2:
            break
    return " ".join(f"{count} {tr(name)}" for count, name in parts if count)


def grid_of_fields() -> Table:
    """A grid for the fields of one thing: a name and a value in each row, of which no value is cut."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _job(status: "JobStatus") -> Table:
    grid = grid_of_fields()
    grid.add_row(tr("state"), state_text(status.state))
    grid.add_row("id", status.id)
    grid.add_row(tr("job"), f"{status.kind} app={status.app} lane={status.lane}")
    if status.sender:
        grid.add_row(tr("sender"), status.sender)
    grid.add_row(
        tr("attempts"),
        tr(
            "{attempts}, throttled {throttles} times",
            attempts=status.attempts,
            throttles=status.throttles,
        ),
    )
    grid.add_row(tr("created"), local(status.created_at))
    if status.due_at and not status.state.ended:
        grid.add_row(tr("due"), f"{local(status.due_at)}{_from_now(status.due_at)}")
    if status.settled_at:
        took = (status.settled_at - status.created_at).total_seconds()
        grid.add_row(
            tr("settled"),
            tr("{moment}, after {took:.2f} s", moment=local(status.settled_at), took=took),
        )
    if status.result is not None:
        # A message's result has a list for each reason why users were not reached; most are empty.
        shown = {name: value for name, value in status.result.items() if value != []}
        grid.add_row(tr("result"), Text(json.dumps(shown, ensure_ascii=False)))
    if status.resolved:
        verdict = tr("it happened") if status.resolved.happened else tr("it did not happen")
        by = tr(" by {by}", by=status.resolved.by) if status.resolved.by else ""
        grid.add_row(
            tr("resolved"),
            tr(
                "{verdict}, said{who} at {moment}",
                verdict=verdict,
                who=by,
                moment=local(status.resolved.at),
            ),
        )
    if status.error:
        error = status.error
        name = f"{error.error_class} {error.prefix}".rstrip()
        text = f"{name}: {translated(error.message)}"
        grid.add_row(tr("error"), Text(text, style="red"))
        for found in status.error.candidates:
            grid.add_row(
                tr("may be"), Text(f"{found.id} {found.title} {found.created}\n{found.link}")
            )
        if status.error.hint:
            grid.add_row(tr("hint"), Text(translated(status.error.hint), style="bold"))
    return grid


def _from_now(moment: datetime) -> str:
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return tr(", in {length}", length=length(seconds)) if seconds >= 1 else ""
