"""``dingrelay job``: what became of jobs."""

from typing import Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.documents import read_past
from dingrelay_producers.cli.exits import DONE, OTHERWISE, of_state
from dingrelay_producers.cli.output import console, print_details, print_job
from dingrelay_producers.cli.waiting import wait_for
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store.states import State

JobId = Annotated[str, typer.Argument(help="The job's id, or how it begins.")]

app = typer.Typer(help="Look at jobs, cancel them, and settle unknown ones.", no_args_is_help=True)


@app.command()
def show(
    job_id: JobId,
    wait: options.Wait = False,
    timeout: options.Timeout = 60,
    as_json: options.AsJson = False,
) -> None:
    """Show one job; with --wait, once it has ended."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
        if wait:
            wait_for(client.job(job_id), timeout)
        details = client.details(job_id)
    print_details(details, as_json=as_json)
    if wait:
        raise typer.Exit(of_state(details.status.state))


@app.command("list")
def list_(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    app: Annotated[str | None, typer.Option(help="Only jobs of this application.")] = None,
    sender: Annotated[str | None, typer.Option(help="Only jobs of this sender.")] = None,
    lane: Annotated[options.LaneName | None, typer.Option(help="Only jobs of this lane.")] = None,
    to: Annotated[
        str | None, typer.Option(metavar="USER", help="Only messages to this person.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Accepted from then on: 7d ago, or 2026-01-31T09:00.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Accepted before then: as --since.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only jobs with this text in what they ask for.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=10_000, help="How many of the newest.")
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """List jobs, the newest first: those in Redis, and those that ended, from the history."""
    from dingrelay_producers.cli.job_table import print_jobs
    from dingrelay_producers.client.client import Client
    from dingrelay_producers.client.history_backend import JobFields

    chosen = JobFields(
        state=state,
        kind=kind,
        app=app,
        sender=sender,
        lane=lane,
        to=to,
        since=read_past(since, "--since"),
        until=read_past(until, "--until"),
        text=text,
    )
    err = console(stderr=True)
    with Client() as client:
        try:
            found = client.jobs(limit=limit, on_unreadable=err.print, **chosen)
        except ServiceUnavailable as error:
            # Redis lists the newest jobs without the database, if it can be reached itself.
            found = client.jobs(limit=limit, history=False, **chosen)
            err.print(
                tr("only what Redis knows: {error}", error=translated(str(error))), style="yellow"
            )
        print_jobs(found, as_json=as_json)


@app.command()
def cancel(job_id: JobId, as_json: options.AsJson = False) -> None:
    """Cancel a job that does not run. Exit code 1 if it runs or has ended."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
        cancelled = client.cancel(job_id)
        status = client.status(job_id)
    print_job(status, as_json=as_json)
    if status.state == State.RUNNING:
        console(stderr=True).print(tr("It runs: this run goes on, but it is not tried again."))
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
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
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
        console(stderr=True).print(
            tr("It was {state}, not unknown.", state=status.state), style="yellow"
        )
    raise typer.Exit(DONE if resolved else OTHERWISE)


def _user() -> str:
    import getpass
    import socket

    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container's user may have no name
        return socket.gethostname()
