"""Lists of jobs, for people and for programs."""

from collections.abc import Iterable

from dingrelay_producers.cli.output import print_json, state_text
from dingrelay_producers.cli.table import Column, print_table
from dingrelay_producers.language import translated
from dingrelay_producers.store.status import JobStatus
from dingrelay_producers.zone import local


def print_jobs(statuses: Iterable[JobStatus], *, as_json: bool) -> None:
    """A list of jobs; as JSON one array."""
    if as_json:
        print_json([status.to_json() for status in statuses])
        return
    print_table(
        statuses,
        Column("state", lambda job: state_text(job.state)),
        Column("id", lambda job: job.id),
        Column("kind", lambda job: job.kind, rank=1),
        Column("app", lambda job: job.app, rank=5),
        Column("lane", lambda job: job.lane, rank=4),
        Column("att.", lambda job: str(job.attempts), rank=6, right=True),
        Column("created", lambda job: local(job.created_at), rank=3),
        Column("reason", _reason, rank=2, cut=True),
    )


def _reason(job: JobStatus) -> str:
    error = job.error
    return f"{error.prefix} {translated(error.message)}".strip() if error else ""
