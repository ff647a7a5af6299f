"""Enqueueing one job from a command, and telling what became of it."""

import typer

from dingrelay_producers.cli.exits import of_state
from dingrelay_producers.cli.output import console, print_job
from dingrelay_producers.cli.waiting import wait_for
from dingrelay_producers.client.client import Client
from dingrelay_producers.client.job_ref import JobRef
from dingrelay_producers.language import tr
from dingrelay_tasks.contract import Contract


def enqueue(job: Contract, *, wait: bool, timeout: float, as_json: bool) -> None:
    """Enqueue a job and print it; with `wait`, once it has ended.

    Raises:
        Exit: with `wait`, unless the job is done.
    """
    with Client() as client:
        show_accepted(client.send(job), job.summary(), wait=wait, timeout=timeout, as_json=as_json)


def show_accepted(ref: JobRef, what: str, *, wait: bool, timeout: float, as_json: bool) -> None:
    """Print a job that was enqueued, and what it does; with `wait`, once it has ended.

    Raises:
        Exit: with `wait`, unless the job is done.
    """
    if wait:
        # First: after an interruption the job can be found by its id.
        console(stderr=True).print(tr("accepted {id}", id=ref.id), style="dim")
        status = wait_for(ref, timeout)
        print_job(status, as_json=as_json)
        raise typer.Exit(of_state(status.state))
    if as_json:
        print_job(ref.status(), as_json=True)
    else:
        console().print(tr("accepted {id}  {what}", id=ref.id, what=what), markup=False)
