"""``dingrelay job``: what became of jobs, and what can be done about them."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dingrelay_producers.cli import options
from dingrelay_producers.cli.output import (
    Column,
    console,
    exit_code_of,
    note,
    print_details,
    print_job,
    print_result,
    print_table,
    state_text,
)
from dingrelay_producers.cli.shared import WAIT, takes, value_of
from dingrelay_producers.cli.verbs import VerbCommands, carry_out_in_redis, noun_app
from dingrelay_producers.cli.waiting import show_accepted, wait_for
from dingrelay_producers.client.filters import JobFilter
from dingrelay_producers.errors import JobConflict, JobNotFound, ServiceUnavailable
from dingrelay_producers.exit_codes import OTHERWISE
from dingrelay_producers.language import tr, translated
from dingrelay_producers.store.states import State
from dingrelay_producers.zone import local

if TYPE_CHECKING:
    from dingrelay_producers.client.dead_codes import DeadCode, DeadCodes
    from dingrelay_producers.client.verbs import Verb
    from dingrelay_producers.store.status import JobStatus

ALL = 100_000
"""How many dead jobs one command requeues or discards at most."""

JobId = Annotated[str, typer.Argument(help="The job's id, or how it begins.")]
Everything = Annotated[bool, typer.Option("--all", help="All that are dead or unknown.")]
Code = Annotated[str | None, typer.Option(help="With --all: only those that died of this code.")]
JobIds = Annotated[list[str] | None, typer.Argument(help="The jobs' ids, or how they begin.")]


def _carry_out(noun: Any, verb: "Verb", job_id: str, *said: Any, **more: Any) -> None:
    """Print the job that it is done to; of one that does it, as `show_accepted`.

    Raises:
        Exit: the job is in a state in which this can't be done.
    """
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
        try:
            status = carry_out_in_redis(noun, verb, job_id, *said, **more)
        except JobConflict as conflict:
            print_job(client.status(job_id))
            note(translated(str(conflict)), style="yellow")
            raise typer.Exit(OTHERWISE) from None
        if status is None:
            print_result({"id": job_id}, lambda: translated(verb.done))
        elif status.id != job_id:
            show_accepted(client.job(status.id), f"{status.kind} {job_id}")
        else:
            print_job(status)
    if verb.name == "cancel" and status and status.state != State.CANCELLED:
        if status.state == State.RUNNING:
            note(tr("It runs: this run goes on, but it is not tried again."), style="none")
        raise typer.Exit(OTHERWISE)


app = noun_app(
    VerbCommands(
        "dingrelay_producers.client.jobs:Jobs",
        ("job_id", JobId),
        _carry_out,
        more={"recall": WAIT},
        about="Exit code 1 if the job is in a state in which this can't be done.",
    ),
    "Look at jobs; cancel, requeue, discard, recall and resolve them.",
)


@app.command()
@takes(*WAIT)
def show(job_id: JobId) -> None:
    """Show one job, and what to do if it failed; with --wait, once it has ended."""
    from dingrelay_producers.client.client import Client

    with Client() as client:
        job_id = client.whole_id(job_id)
        if value_of("wait"):
            wait_for(client.job(job_id))
        details = client.details(job_id)
    print_details(details)
    if value_of("wait"):
        raise typer.Exit(exit_code_of(details.status.state))


@app.command("list")
@takes("app")
@options.filtered_by(JobFilter)
def list_(
    list_filter: JobFilter,
    limit: options.Limit = 50,
    by_code: Annotated[
        bool, typer.Option("--by-code", help="Count dead and unknown jobs by code instead.")
    ] = False,
) -> None:
    """List jobs, the newest first: those in Redis, and those that ended, from the history.

    What will not be tried again by itself: --state dead, --state unknown.
    """
    from dingrelay_producers.client.client import Client

    err = console(stderr=True)
    with Client() as client:
        if by_code:
            counted = client.dead_codes(**list_filter.conditions)
            print_result(counted, lambda: _print_codes(counted))
            return
        try:
            jobs = client.jobs(limit=limit, on_unreadable=err.print, **list_filter.conditions)
        except ServiceUnavailable as error:
            # Redis lists the newest jobs without the database, if it can be reached itself.
            jobs = client.jobs(limit=limit, history=False, **list_filter.conditions)
            err.print(
                tr("only what Redis knows: {error}", error=translated(str(error))), style="yellow"
            )
        print_result(jobs, lambda: _print(jobs))


def _print(jobs: "Iterable[JobStatus]") -> None:
    print_table(
        jobs,
        Column("state", lambda job: state_text(job.state)),
        Column("id", lambda job: job.id),
        Column("kind", lambda job: job.kind, rank=1),
        Column("app", lambda job: job.app, rank=5),
        Column("lane", lambda job: job.lane, rank=4),
        Column("att.", lambda job: str(job.attempts), rank=6, right=True),
        Column("created", lambda job: local(job.created_at), rank=3),
        Column("reason", _reason, rank=2, cut=True),
    )


def _print_codes(dead_codes: "DeadCodes") -> None:
    print_table(
        dead_codes.codes,
        Column("jobs", lambda code: f"{code.jobs:,}", right=True),
        Column("state", lambda code: state_text(State(code.state))),
        Column("code", lambda code: code.code or code.error_class),
        Column("first", lambda code: local(code.first_at), rank=5),
        Column("latest", lambda code: local(code.latest_at), rank=3),
        Column("senders", _senders, rank=4, cut=True),
        Column("reason", lambda code: translated(code.message), rank=1, cut=True),
        Column("hint", lambda code: translated(code.hint), rank=2, cut=True),
    )
    if not dead_codes.complete:
        note(tr("the latest ones only: there are more"), style="dim")


def _senders(code: "DeadCode") -> str:
    parts = [
        f"{':'.join(filter(None, (part.app, part.sender)))} {part.jobs:,}" for part in code.senders
    ]
    return ", ".join(parts)


def _reason(job: "JobStatus") -> str:
    error = job.error
    return f"{error.prefix} {translated(error.message)}".strip() if error else ""


@app.command()
def requeue(job_ids: JobIds = None, everything: Everything = False, code: Code = None) -> None:
    """Give jobs another life, with what they have already done remembered."""
    _change("requeue", job_ids, everything, code)


@app.command()
def discard(job_ids: JobIds = None, everything: Everything = False, code: Code = None) -> None:
    """Forget dead or unknown jobs for good: nothing of them is kept."""
    _change("discard", job_ids, everything, code)


def _change(
    verb: Literal["requeue", "discard"],
    job_ids: list[str] | None,
    everything: bool,
    code: str | None,
) -> None:
    """Do it to each job and report for how many it was done.

    Raises:
        Exit: a job that was named is in a state in which this can't be done.
    """
    if everything == bool(job_ids):
        raise typer.BadParameter(tr("give ids, or --all"), param_hint="JOB_IDS")
    if code is not None and not everything:
        raise typer.BadParameter(tr("goes with --all"), param_hint="--code")
    from dingrelay_producers.client.client import Client

    missing: list[JobNotFound] = []
    with Client() as client:
        ids = [client.whole_id(job_id) for job_id in job_ids or ()] or [
            status.id
            for status in client.dead(ALL, on_unreadable=console(stderr=True).print)
            if code is None or (status.error and status.error.code == code)
        ]
        if everything:
            act = client.requeue_all if verb == "requeue" else client.discard_all
            changed_ids = act(ids)
        else:
            act_on = client.requeue if verb == "requeue" else client.discard
            changed_ids = [job_id for job_id in ids if _is_done(act_on, job_id, missing)]
    unchanged_ids = sorted(set(ids) - set(changed_ids))
    print_result(
        {"requeued" if verb == "requeue" else "discarded": changed_ids, "left": unchanged_ids},
        lambda: tr(
            "{count} requeued" if verb == "requeue" else "{count} discarded", count=len(changed_ids)
        ),
    )
    for job_id in sorted({*unchanged_ids} - {error.id for error in missing}):
        console(stderr=True).print(
            tr("not dead or unknown: {job_id}", job_id=job_id), style="yellow"
        )
    if missing:
        raise missing[0]
    if unchanged_ids:
        raise typer.Exit(OTHERWISE)


def _is_done(act: Callable[[str], bool], job_id: str, missing: list[JobNotFound]) -> bool:
    """Change a job; whether it was in a state for it. The others are changed although one is missing."""
    try:
        return act(job_id)
    except JobNotFound as error:
        missing.append(error)
        return False
