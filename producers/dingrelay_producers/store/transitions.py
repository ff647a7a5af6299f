"""The scripts that change a job's record, or read it, from a producer's side; and Lua that all transitions need."""

from collections.abc import Sequence
from typing import NamedTuple

from dingrelay_producers.store import keys
from dingrelay_producers.store.script_functions import Key, Keys, Prelude, script
from dingrelay_tasks.kinds import KINDS

_PACKAGE = "dingrelay_producers.store"

RECORD_FORMAT = 1
"""The number that `enqueue` writes into a record as ``v``; a record without one is of 0.2.0 or earlier.

It grows with a change that an older release must not carry out as it knows it. Fields that may be
overlooked need no new number. Whatever the number, these mean what they do here, since a scheduler of
any release wakes all jobs by them: state, due, woken, lease, queue, kind, app, lane, summary, owner.
"""

_PLACES: dict[str, str | int] = {
    "JOB": keys.job(""),
    "SCHEDULE": keys.SCHEDULE,
    "WOKEN": keys.woken(""),
    "RUNNING": keys.RUNNING,
    "QUEUES": keys.QUEUES,
    "PROGRESS": keys.progress(""),
    "PROGRESS_TTL": keys.PROGRESS_TTL_MS,
    "SLOTS": keys.PROGRESS_SLOTS,
    "ALIVE": keys.alive(""),
    "LANES": keys.LANES,
    "TURNS": keys.turns(""),
    "PARKED_PATTERN": keys.parked("(.*)", "(.*)"),
    "NEW": str(keys.NEW),
    "TOMBSTONE": keys.tombstone(""),
    "TOMBSTONE_TTL": keys.TOMBSTONE_TTL_MS,
    "DAY_TTL": keys.DAY_TTL_MS,
    "MARGIN": keys.JOB_MARGIN_MS,
    "FORMAT": RECORD_FORMAT,
}
"""Keys, one as a pattern, and how long they live (ms); the record format of this release."""


def _endings() -> dict[str, str | int]:
    """The stream of endings, and the kinds whose end is not published, since what made them polls for it."""
    silent = (name for name, kind in KINDS.items() if kind.ephemeral)
    return {
        "ENDINGS": keys.ENDINGS,
        "ENDINGS_TTL": keys.ENDINGS_TTL_MS,
        "MOST_ENDINGS": keys.MOST_ENDINGS,
        "SILENT": f" {' '.join(silent)} ",
    }


def _pauses() -> dict[str, str | int]:
    """Keys of pauses, and the kinds of jobs that one holds: those of a lane, but for what cleans up behind others."""
    held = (name for name, kind in KINDS.items() if not kind.queue and not kind.goes_on)
    return {
        "PAUSES": keys.PAUSES,
        "HELD": keys.HELD,
        "HELD_JOBS": keys.held_jobs(""),
        "HELD_TTL": keys.PAUSE_TTL_MS,
        "WAITING_TTL": keys.WAITING_TTL_MS,
        "HELD_KINDS": f" {' '.join(held)} ",
    }


TIME = Prelude(_PACKAGE, "time")
PLACES = Prelude(_PACKAGE, "places", (TIME,), lambda: _PLACES)
"""Shared by all transitions of a job."""
PAUSES = Prelude(_PACKAGE, "pauses", (PLACES,), _pauses)
"""Shared by what hands jobs to workers, and what wakes those that are held."""
RESERVATIONS = Prelude(_PACKAGE, "reservations", (PLACES,))
ENDINGS = Prelude(_PACKAGE, "endings", (RESERVATIONS,), _endings)
"""Shared by transitions that may end a job."""


class WrittenJob(NamedTuple):
    """A job as the script that accepts it reads it.

    Attributes:
        digest: of what it asks for.
        due: as in its draft.
        batch_key: where it waits for a call that carries several jobs.
        has_key: whether a job of this id may have been discarded.
        looked_for: whether its call can be looked for where a failover of Redis may have lost the intent.
        before: its wake-up up to the time; empty if it is not published by the script.
        after: what follows the time.
        channel: of the Celery event for the wake-up; empty for none.
        event: that is published there.
    """

    id: str
    kind: str
    app: str
    lane: str
    queue: str
    payload: str
    digest: str
    summary: str
    due: int
    expires: int | None
    parent: str
    bare: bool
    batch_key: str
    recipients: int
    sender: str
    trace: str
    has_key: bool
    looked_for: bool
    before: str = ""
    after: str = ""
    channel: str = ""
    event: str = ""


@script(_PACKAGE, PLACES)
def enqueue(
    *,
    recent: Key,
    lease: Key | None,
    holder: str,
    recent_size: int,
    recent_ttl: int,
    batch_key_ttl: int,
    jobs: Sequence[WrittenJob],
) -> None:
    """Nothing is accepted unless the lease, if there is one, has this holder. Times in ms."""


@script(_PACKAGE, ENDINGS)
def cancel(*, record: Key, dead: Key, job: str, ttl: int, dead_ttl: int, lost: str) -> None:
    """`lost`: error of a job that is unknown (JSON); empty where the campaign that withdraws it continues it."""


@script(_PACKAGE, PLACES)
def requeue(*, record: Key, dead: Key, job: str) -> None:
    """Give an ended job another life."""


@script(_PACKAGE, PAUSES)
def postpone(*, record: Key, job: str, moment: int, rehearsal: bool) -> None:
    """Have a job that waits not run before a moment (ms); in a `rehearsal` only answer."""


class Untaken(NamedTuple):
    """A job to wake; with the time of a wake-up (ms) only if it has had no later one."""

    id: str
    woken: int | None


@script(_PACKAGE, PLACES)
def wake(*, jobs: Sequence[Untaken]) -> None:
    """Have the scheduler wake jobs now."""


@script(_PACKAGE, PAUSES)
def pause(
    *, name: str, ends: int | None, usual: int, longest: int, person: str, reason: str
) -> None:
    """Pause a lane, or a sender in it, until a moment, for the `usual` time if none is given, or the `longest` (ms)."""


@script(_PACKAGE, PAUSES)
def resume(*, name: str) -> None:
    """End a pause."""


@script(_PACKAGE, PAUSES)
def read_pauses() -> None:
    """The pauses of now."""


@script(_PACKAGE, RESERVATIONS)
def discard(
    *, record: Key, dead: Key, recent: Key, job: str, ended: bool, settled: str | None
) -> None:
    """`ended`: whatever its end; `settled`: only if it ended then (ms, as the record has it)."""


@script(_PACKAGE, TIME)
def read_records(*, records: Keys, longest: int | None, with_payload: Sequence[bool]) -> None:
    """Fields of records, each with its payload or without; `longest` bounds their values (bytes)."""


@script(_PACKAGE, PLACES)
def briefs(
    *,
    index: Key,
    most: int,
    limit: int,
    last_score: int | None,
    last_id: str,
    since: float,
    before: float,
    text: bytes | None,
    person: str | None,
    states: str,
    kinds: str,
    apps: str,
    senders: str,
    lanes: str,
    codes: str,
) -> None:
    """The latest jobs of an index that fit, from behind the last one of before.

    `most` jobs are looked at until `limit` are found, fewer where their texts are long. They were accepted from `since`
    to `before` (ms); payload or addresses hold the text and the person, and each field has one of some values, each
    behind a newline; '' for any.
    """


@script(_PACKAGE, ENDINGS)
def resolve(
    *,
    record: Key,
    dead: Key,
    approval_owner: Key | None,
    job_approval: Key | None,
    job: str,
    happened: bool,
    step: str | None,
    outcome: str | None,
    goes_on: bool,
    decision: str,
    result: str | None,
    ttl: int,
    approval: str | None,
    approval_ttl: int,
    job_ttl: int,
    rehearsal: bool,
) -> None:
    """`decision` (JSON) says who decided, and gets the time; `result` (JSON) is the job's. A `rehearsal` only answers.

    The `step` whose call happened has the `outcome` (JSON) from then on, and the job `goes_on` behind it.

    If an `approval` was found, the job has it from then on: the instance's mark and the job's live for so long (ms).
    """
