"""What commands print: colours and tables for people, JSON for programs."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus

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


def console(*, stderr: bool = False) -> Console:
    """Where a command prints for people."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPED_COLUMNS
    return Console(stderr=stderr, width=width, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value on one line."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_job(status: JobStatus, *, as_json: bool) -> None:
    """One job, with what to do if it failed."""
    if as_json:
        print_json(status.to_json())
    else:
        console().print(_job(status))


def print_jobs(statuses: Iterable[JobStatus], *, as_json: bool) -> None:
    """A list of jobs; as JSON one array."""
    if as_json:
        print_json([status.to_json() for status in statuses])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("state", no_wrap=True)
    table.add_column("id", no_wrap=True)
    for title in ("kind", "app", "lane"):
        table.add_column(title)
    table.add_column("att.", justify="right")
    table.add_column("created", no_wrap=True)
    table.add_column("reason", overflow="ellipsis", no_wrap=True)
    for status in statuses:
        table.add_row(
            state_text(status.state),
            status.id,
            status.kind,
            status.app,
            status.lane,
            str(status.attempts),
            local(status.created_at),
            Text(f"{status.error.code} {status.error.message}" if status.error else ""),
        )
    if table.row_count:
        console().print(table)
    else:
        console(stderr=True).print("none", style="dim")


def state_text(state: State) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS[state])


def local(moment: datetime) -> str:
    """A moment in the reader's own time zone, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _job(status: JobStatus) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("state", state_text(status.state))
    grid.add_row("id", status.id)
    grid.add_row("job", f"{status.kind} app={status.app} lane={status.lane}")
    grid.add_row("attempts", f"{status.attempts}, throttled {status.throttles} times")
    grid.add_row("created", local(status.created_at))
    if status.due_at and not status.state.ended:
        grid.add_row("due", f"{local(status.due_at)}{_from_now(status.due_at)}")
    if status.settled_at:
        took = (status.settled_at - status.created_at).total_seconds()
        grid.add_row("settled", f"{local(status.settled_at)}, after {took:.2f} s")
    if status.result is not None:
        grid.add_row("result", Text(json.dumps(status.result, ensure_ascii=False)))
    if status.resolved:
        verdict = "it happened" if status.resolved.happened else "it did not happen"
        who = f" by {status.resolved.by}" if status.resolved.by else ""
        grid.add_row("resolved", f"{verdict}, said{who} at {local(status.resolved.at)}")
    if status.error:
        said = f"{status.error.error_class} {status.error.code}: {status.error.message}"
        grid.add_row("error", Text(said, style="red"))
        for found in status.error.candidates:
            grid.add_row("may be", Text(f"{found.id} {found.title} {found.created}\n{found.link}"))
        if status.error.hint:
            grid.add_row("hint", Text(status.error.hint, style="bold"))
    return grid


def _from_now(moment: datetime) -> str:
    seconds = (moment - datetime.now(UTC)).total_seconds()
    return f", in {seconds:.0f} s" if seconds >= 1 else ""
