"""Lists of jobs, for people and for programs."""

from collections.abc import Iterable

from dingrelay_producers.cli.output import print_json, state_text
from dingrelay_producers.cli.table import Column, print_table
from dingrelay_producers.language import translated
from dingrelay_producers.store.status import JobStatus
from dingrelay_producers.zone import local

_COLUMNS = (
    Column("state"),
    Column("id"),
    Column("kind", rank=1),
    Column("app", rank=5),
    Column("lane", rank=4),
    Column("att.", rank=6, right=True),
    Column("created", rank=3),
    Column("reason", rank=2, cut=True),
)


def print_jobs(statuses: Iterable[JobStatus], *, as_json: bool) -> None:
    """A list of jobs; as JSON one array."""
    if as_json:
        print_json([status.to_json() for status in statuses])
        return
    print_table(
        _COLUMNS,
        (
            (
                state_text(status.state),
                status.id,
                status.kind,
                status.app,
                status.lane,
                str(status.attempts),
                local(status.created_at),
                f"{status.error.prefix} {translated(status.error.message)}".strip()
                if status.error
                else "",
            )
            for status in statuses
        ),
    )
