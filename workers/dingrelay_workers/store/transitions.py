"""The scripts that change a job's record from a worker's side."""

from collections.abc import Sequence
from typing import NamedTuple

from dingrelay_producers.store.script_functions import Key, Prelude, script
from dingrelay_producers.store.states import Ownership
from dingrelay_producers.store.transitions import ENDINGS, PAUSES, PLACES
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.limiter.transitions import RULES

_PACKAGE = "dingrelay_workers.store"


def _kinds() -> dict[str, str | int]:
    """The kinds that this release runs, and those with a step that must not be repeated and can be looked for."""
    steps = (f"{kind.name}:{kind.changing_step}" for kind in KINDS.values() if kind.changing_step)
    return {"KINDS": f" {' '.join(KINDS)} ", "CHANGING_STEPS": f",{','.join(steps)},"}


APPROVAL_CLAIMS = Prelude(_PACKAGE, "approval_claims")
_RUNNING = Prelude(_PACKAGE, "running", (PAUSES,), _kinds)
_UNWOKEN = Prelude(_PACKAGE, "unwoken", (_RUNNING,))


class FinishedStep(NamedTuple):
    """A finished step; its outcome is JSON."""

    name: str
    outcome: str


# All times are in ms.
@script(_PACKAGE, _RUNNING, together=True)
def claim(
    *, record: Key, progress: Key, job: str, owner: str, lease: int, woken: int, slot: int
) -> None:
    """`progress` is that of the queue, of which a `slot` is so long."""


@script(_PACKAGE, _RUNNING)
def leave(*, record: Key, job: str) -> None:
    """Leave a job that is due to a worker of a newer release."""


@script(_PACKAGE, _UNWOKEN, RULES)
def claim_batch(
    *,
    waiting: Key,
    bucket: Key | None,
    owner: str,
    lease: int,
    room: int,
    lane: str,
    most: int,
    burst: int,
    rate: float,
) -> None:
    """`room` is for recipients, `most` are the jobs to look at; the bucket is that of recipients, if they are limited."""


@script(_PACKAGE, _UNWOKEN)
def claim_late(*, in_turn: Key, owner: str, lease: int, queue: str, most: int, late: int) -> None:
    """At most so many that were woken so long ago."""


@script(_PACKAGE, PLACES)
def heartbeat(*, lease: int, runs: Sequence[Ownership]) -> None:
    """Renew the leases of runs."""


@script(_PACKAGE, PLACES, together=True)
def write_intent(
    *,
    record: Key,
    owner: str,
    fence: int,
    intent: str,
    answered: bool,
    leaves_until: int | None,
    reserves: str | None,
    steps: Sequence[FinishedStep],
) -> None:
    """`answered`: no earlier call of the job is open any more; `reserves`: the step whose call needs a reservation."""


@script(_PACKAGE, ENDINGS, together=True)
def reschedule(
    *,
    record: Key,
    dead: Key,
    outages: Key,
    lanes: Key,
    job: str,
    waiting_for_it: Key | None,
    breaker_of_api: Key | None,
    breaker_of_host: Key | None,
    breaker_of_app: Key | None,
    turns: Key | None,
    parked: Key | None,
    owner: str,
    fence: int,
    state: str,
    delay: int,
    attempts: int,
    throttles: int,
    error: str | None,
    answered: bool,
    waiting: int | None,
    cancelled_ttl: int,
    dead_ttl: int,
    lost: str,
    alone: bool,
    batch_key_ttl: int,
    outage: str | None,
    rank: int,
    outage_ttl: int,
    latest: int | None,
    lane: str | None,
    sender: str,
    had: str,
    recipients: int,
    trace: str | None,
    steps: Sequence[FinishedStep],
) -> None:
    """Let a job wait, for one of three or for a time.

    An `outage`: jobs `waiting_for_it` lane by lane (`rank`), one of its breakers, and the `latest` moment of a look. A turn
    in a `lane`: its `turns`, the sender's `parked` jobs, what that has `had` and the job's `recipients`. A call that
    carries several: `waiting` since then, unless it goes `alone`. One that was cancelled ends for `cancelled_ttl`, or
    for `dead_ttl` with the error `lost` (JSON).
    """


@script(_PACKAGE, APPROVAL_CLAIMS, ENDINGS, together=True)
def settle(
    *,
    record: Key,
    dead: Key,
    job: str,
    owner: str,
    fence: int,
    state: str,
    attempts: int,
    throttles: int,
    result: str | None,
    error: str | None,
    answered: bool,
    ttl: int,
    dead_ttl: int,
    steps: Sequence[FinishedStep],
    approval_owner: Key | None,
    job_approval: Key | None,
    instance: str,
    since: str,
    approval_ttl: int,
    job_ttl: int,
) -> None:
    """`answered`: no call is open any more; `result` and `error` are JSON.

    The last six are those of `claim_approval`, of a job that has an approval.
    """


@script(_PACKAGE, ENDINGS)
def restore_end(
    *, record: Key, dead: Key, job: str, state: str, settled: int, ttl: int, dead_ttl: int
) -> None:
    """End a job that is open, as the history has it."""
