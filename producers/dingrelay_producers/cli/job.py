"""``dingrelay job``: what became of jobs."""

from typing import Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.store.states import State

JobId = Annotated[str, typer.Argument(help="The job's id.")]

app = typer.Typer(help="Look at jobs, cancel them, and settle unknown ones.", no_args_is_help=True)


@app.command()
def show(
    job_id: JobId,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Show one job; with --wait, once it has ended."""
    from dingrelay_producers.cli.exits import of_state
    from dingrelay_producers.cli.output import print_job
    from dingrelay_producers.cli.waiting import wait_for
    from dingrelay_producers.client.client import Client

    with Client() as client:
        ref = client.job(job_id)
        status = wait_for(ref, timeout) if wait else ref.status()
    print_job(status, as_json=as_json)
    if wait:
        raise typer.Exit(of_state(status.state))


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the newest.")
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """List the newest jobs, newest first."""
    from dingrelay_producers.cli.output import print_jobs
    from dingrelay_producers.client.client import Client

    with Client() as client:
        found = client.recent(limit)
    chosen = [
        status for status in found if state in {None, status.state} and kind in {None, status.kind}
    ]
    print_jobs(chosen, as_json=as_json)


@app.command()
def cancel(job_id: JobId, as_json: options.AsJson = False) -> None:
    """Cancel a job that does not run. Exit code 1 if it runs or has ended."""
    from dingrelay_producers.cli.exits import DONE, OTHERWISE
    from dingrelay_producers.cli.output import console, print_job
    from dingrelay_producers.client.client import Client

    with Client() as client:
        cancelled = client.cancel(job_id)
        status = client.status(job_id)
    print_job(status, as_json=as_json)
    if status.state == State.RUNNING:
        console(stderr=True).print("It runs: this run goes on, but it is not tried again.")
    raise typer.Exit(DONE if cancelled else OTHERWISE)


@app.command()
def resolve(
    job_id: JobId,
    instance: Annotated[
        str | None, typer.Option(help="The approval instance that the job created.")
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="It created none: create it now.")
    ] = False,
    sent: Annotated[
        bool | None,
        typer.Option(
            "--sent/--not-sent", help="Whether the message was sent, or the call carried out."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Who says so; the present user if not given.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Say what became of an unknown job. Exit code 1 if it is not unknown.

    `dingrelay job show` lists the approvals that it may have created, with their links.
    """
    from dingrelay_producers.cli.exits import DONE, OTHERWISE
    from dingrelay_producers.cli.output import console, print_job
    from dingrelay_producers.client.client import Client

    with Client() as client:
        resolved = client.resolve(
            job_id,
            instance=instance,
            not_created=not_created,
            sent=sent,
            by=_user() if by is None else by,
        )
        status = client.status(job_id)
    print_job(status, as_json=as_json)
    if not resolved:
        console(stderr=True).print(f"It was {status.state}, not unknown.", style="yellow")
    raise typer.Exit(DONE if resolved else OTHERWISE)


def _user() -> str:
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return socket.gethostname()
