"""``dingrelay dead``: jobs that will not be tried again by themselves."""

from collections.abc import Callable
from typing import Annotated

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.exits import OTHERWISE
from dingrelay_producers.cli.output import console, print_details, print_json
from dingrelay_producers.language import tr

ALL = 100_000
"""How many dead jobs one command takes at most."""

JobIds = Annotated[list[str] | None, typer.Argument(help="The jobs' ids, or how they begin.")]

app = typer.Typer(help="Look after jobs that ended dead or unknown.", no_args_is_help=True)


@app.command("list")
def list_(
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=ALL, help="How many of the latest.")
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """List them with their reasons, latest first."""
    from dingrelay_producers.cli.job_table import print_jobs
    from dingrelay_producers.client.client import Client

    with Client() as client:
        print_jobs(client.dead(limit), as_json=as_json)


@app.command()
def show(
    job_id: Annotated[str, typer.Argument(help="The job's id, or how it begins.")],
    as_json: options.AsJson = False,
) -> None:
    """Show one job: why it died and what to do."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        print_details(client.details(client.whole_id(job_id)), as_json=as_json)


@app.command()
def requeue(
    job_ids: JobIds = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that are dead or unknown.")
    ] = False,
    code: Annotated[
        str | None, typer.Option(help="With --all: only those that died of this code.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Give jobs another life, with what they have already done remembered."""
    if everything == bool(job_ids):
        raise typer.BadParameter(tr("give ids, or --all"), param_hint="JOB_IDS")
    if code is not None and not everything:
        raise typer.BadParameter(tr("goes with --all"), param_hint="--code")
    from dingrelay_producers.client.client import Client

    with Client() as client:
        chosen = [client.whole_id(each) for each in job_ids or ()] or [
            status.id
            for status in client.dead(ALL)
            if code is None or (status.error and status.error.code == code)
        ]
        _act(chosen, client.requeue, "requeued", as_json=as_json)


@app.command()
def discard(job_ids: JobIds = None, as_json: options.AsJson = False) -> None:
    """Forget jobs for good: nothing of them is kept."""
    if not job_ids:
        raise typer.BadParameter(tr("give at least one"), param_hint="JOB_IDS")
    from dingrelay_producers.client.client import Client

    with Client() as client:
        chosen = [client.whole_id(each) for each in job_ids]
        _act(chosen, client.discard, "discarded", as_json=as_json)


def _act(job_ids: list[str], act: Callable[[str], bool], verb: str, *, as_json: bool) -> None:
    """Do it to each job and tell to how many it was done.

    Raises:
        Exit: a job that was named is none that this can be done to.
    """
    done = [job_id for job_id in job_ids if act(job_id)]
    others = sorted(set(job_ids) - set(done))
    if as_json:
        print_json({verb: done, "left": others})
    else:
        console().print(
            tr("{count} requeued" if verb == "requeued" else "{count} discarded", count=len(done))
        )
        for job_id in others:
            console(stderr=True).print(
                tr("not dead or unknown: {job_id}", job_id=job_id), style="yellow"
            )
    if others:
        raise typer.Exit(OTHERWISE)
