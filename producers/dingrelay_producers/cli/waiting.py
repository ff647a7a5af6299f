"""Enqueueing one job from a command, and waiting for it, while the terminal shows its state."""

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from dingrelay_producers.cli.output import as_json, console, exit_code_of, note, print_job, say
from dingrelay_producers.cli.shared import seconds_to_wait, value_of
from dingrelay_producers.errors import WaitTimeout
from dingrelay_producers.exit_codes import INTERRUPTED, NOT_ENDED
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store.states import State

if TYPE_CHECKING:
    from rich.status import Status

    from dingrelay_producers.client.job_ref import JobRef
    from dingrelay_producers.store.status import JobStatus
    from dingrelay_tasks.contract import Contract

JOB_SECONDS = 60.0
"""How long the end of a job is waited for by default."""
LOOK_SECONDS = 0.5
"""How often the terminal shows what a job that is waited for does."""


def enqueue(job: "Contract", *, seconds: float = JOB_SECONDS) -> None:
    """Enqueue a job and print it; with ``--wait``, once it has ended.

    Raises:
        Exit: with ``--wait``, unless the job is done.
    """
    from dingrelay_producers.client.client import Client

    with Client() as client:
        show_accepted(client.send(job), job.summary(), seconds=seconds)


def show_accepted(ref: "JobRef", what: str, *, seconds: float = JOB_SECONDS) -> None:
    """Print a job that was enqueued, and what it does; with ``--wait``, once it has ended.

    Args:
        ref: the job.
        what: in a few words.
        seconds: for its end, unless ``--timeout`` says otherwise.

    Raises:
        Exit: with ``--wait``, unless the job is done.
    """
    if value_of("wait"):
        # First: after an interruption the job can be found by its id.
        console(stderr=True).print(tr("accepted {id}", id=ref.id), style="dim")
        status = wait_for(ref, seconds)
        print_job(status)
        raise typer.Exit(exit_code_of(status.state))
    if as_json.get():
        print_job(ref.status())
    else:
        say(tr("accepted {id}  {what}", id=ref.id, what=what))


def wait_for(ref: "JobRef", seconds: float = JOB_SECONDS) -> "JobStatus":
    """The status of a job once it has ended.

    Raises:
        Exit: not within ``--timeout``, or otherwise `seconds`, or Ctrl-C was pressed. A note is printed that the job goes
            on, and how to look at it.
    """
    try:
        return _ended(ref, seconds_to_wait(seconds))
    except WaitTimeout as error:
        message = tr("{problem}. {advice}", problem=translated(str(error)), advice=_goes_on(ref))
        note(message, style="yellow")
        raise typer.Exit(NOT_ENDED) from None
    except KeyboardInterrupt:
        note(f"\n{_goes_on(ref)}", style="yellow")
        raise typer.Exit(INTERRUPTED) from None


def _goes_on(ref: "JobRef") -> str:
    return tr(
        "It goes on: look at it with `dingrelay job show {id}`, or `dingrelay job cancel {id}`; `dingrelay doctor` "
        "checks whether workers run",
        id=ref.id,
    )


def _ended(ref: "JobRef", timeout: float) -> "JobStatus":
    with spinner(tr("waiting")) as moving:
        if moving is None:
            return ref.wait(timeout)
        deadline = time.monotonic() + timeout
        while (remaining_seconds := deadline - time.monotonic()) > LOOK_SECONDS:
            try:
                return ref.wait(LOOK_SECONDS)
            except WaitTimeout:
                moving.update(
                    tr(
                        "{id} is {state}, {left:.0f} s left",
                        id=ref.id,
                        state=ref.status().state,
                        left=remaining_seconds,
                    )
                )
        return ref.wait(max(0.0, remaining_seconds))


def wait_for_all(refs: "Sequence[JobRef]", seconds: float = JOB_SECONDS) -> Counter[State]:
    """The jobs' states, counted, once all have ended or the time is over, as in `wait_for`."""
    deadline = time.monotonic() + seconds_to_wait(seconds)
    states: Counter[State] = Counter()
    with spinner(tr("waiting")) as moving:
        for number, ref in enumerate(refs, 1):
            try:
                states[ref.wait(max(0.0, deadline - time.monotonic())).state] += 1
            except WaitTimeout:
                states[ref.status().state] += 1
            if moving is not None:
                moving.update(
                    tr("{number} of {count} jobs have ended", number=number, count=len(refs))
                )
    return states


@contextmanager
def spinner(text: str) -> "Generator[Status | None]":
    """A line that moves, on a terminal; None elsewhere."""
    err = console(stderr=True)
    if not err.is_terminal:
        yield None
        return
    from rich.markup import escape

    with err.status(escape(text)) as status:
        yield status
