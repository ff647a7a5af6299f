"""A job that a worker owns, as the scripts that claim it answer, and Redis's time since then."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from dingrelay_producers.store import keys
from dingrelay_producers.store.states import Ownership
from dingrelay_producers.store.status import STEP
from dingrelay_tasks.contract import Json, Lane
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.wakeup import ReceivedWakeup


@dataclass(frozen=True, slots=True)
class RedisTime:
    """Redis's time when it was read, carried on by this process's monotonic clock.

    It is behind Redis by the time that the answer took, never ahead of it.

    Attributes:
        at: Redis's time, in ms since the epoch.
        read: when it was received, by the monotonic clock.
    """

    at: int
    read: float = field(default_factory=time.monotonic)

    def now(self) -> int:
        """The time, in ms since the epoch."""
        return self.at + int((time.monotonic() - self.read) * 1000)


Verdict = Literal["claimed", "ended", "busy", "early", "newer"]
"""Newer: only a worker of a newer release knows how to run the job; it is woken again for one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker owns.

    Attributes:
        sender: who asks; empty where the payload doesn't say.
        kind: of the job; a message of its id may name another.
        nonce: its owner; each claim of a job has another.
        fence: grows with each owner; see `Ownership`.
        attempts: attempts made before this run.
        crashes: workers that vanished while a call of it was under way, since it last parked.
        losses: workers that vanished while they ran it otherwise.
        expires: when it is of no use any more, in ms; None for never.
        intent: of a call whose answer is not known, if there is one.
        requeued: a person had it carried on since that call left.
        steps: outcomes of steps that earlier runs finished.
        waiting: since when it waits for a limit, in ms; 0 if it does not.
        turn: the lane where it was parked and woken in its sender's turn (`Turns.coming`), or empty.
        queue: that its wake-ups come from.
        time: Redis's clock, since the claim.
        started: when a worker first had it, in ms; 0 if that is not known.
        retried: seconds that it has waited for attempts since the first failure, or the last outage.
        batch_key: where jobs wait with which it may share a call; empty if it goes alone.
        recipients: how many recipients it adds to such a call.
        summary: one line, free of the job's text.
        trace: that it belongs to (`tracing.spans`); empty for none.
    """

    id: str
    kind: str
    nonce: str
    fence: int
    app: str
    lane: Lane
    sender: str
    payload: Any
    parent: str
    attempts: int
    throttles: int
    crashes: int
    expires: int | None
    waiting: int
    intent: Json | None
    steps: Mapping[str, Json]
    created: int
    time: RedisTime = field(compare=False)
    losses: int = 0
    requeued: bool = False
    turn: str = ""
    queue: str = ""
    started: int = 0
    retried: float = 0.0
    batch_key: str = ""
    recipients: int = 0
    summary: str = ""
    trace: str = ""

    @property
    def ownership(self) -> Ownership:
        """This run of the job."""
        return Ownership(self.id, self.nonce, self.fence)

    @property
    def expired(self) -> bool:
        """Whether it was of no use any more when it was claimed."""
        return self.expires is not None and self.expires <= self.time.at

    @property
    def age(self) -> float:
        """Seconds since a worker first had it, by Redis's clock."""
        return (self.time.now() - self.started) / 1000 if self.started else 0.0

    @property
    def shared(self) -> str:
        """Key of what is known of parked jobs that it could share a call with; empty if it goes alone."""
        content = self.batch_key.rpartition(":")[2]
        return keys.parked_content(self.app, content) if content else ""


ClaimedJob = tuple[ReceivedWakeup, Claim]
"""A job claimed without a wake-up, as if one had come."""


class ClaimResult(NamedTuple):
    """The result of claiming a job.

    Attributes:
        claim: the job, if it was claimed.
        waiting: where jobs wait for a call like its, if another worker claimed it.
    """

    verdict: Verdict
    claim: Claim | None = None
    waiting: str = ""


@dataclass(frozen=True, slots=True)
class BatchClaim:
    """Jobs that were claimed for a call.

    Attributes:
        jobs: they go with it.
        next: more wait than there was room for, and this one makes the next call.
    """

    jobs: list[ClaimedJob]
    next: ClaimedJob | None


def claimed_job(job_id: str, now: int, pairs: Sequence[bytes]) -> ClaimedJob:
    """A job that was claimed without a wake-up; as `claim_of`."""
    fields = _fields(pairs)
    claim = _claim(job_id, now, fields)
    kind, queue = KINDS[fields["kind"]], fields["queue"]
    return ReceivedWakeup(
        job_id, kind, claim.payload, queue, woken=claim.created, nonce=claim.nonce
    ), claim


def _fields(pairs: Sequence[bytes]) -> dict[str, str]:
    return {pairs[i].decode(): pairs[i + 1].decode() for i in range(0, len(pairs), 2)}


def claim_of(job_id: str, now: int, pairs: Sequence[bytes]) -> Claim:
    """A job that was claimed at a moment (ms), of its record's names and values in turn."""
    return _claim(job_id, now, _fields(pairs))


def _claim(job_id: str, now: int, fields: Mapping[str, str]) -> Claim:
    payload: Any = json.loads(fields["payload"])
    sender: Any = payload.get("sender") if isinstance(payload, dict) else None
    return Claim(
        id=job_id,
        kind=fields["kind"],
        nonce=fields["owner"],
        fence=int(fields["fence"]),
        app=fields["app"],
        lane=_lane(fields["lane"]),
        sender=sender if isinstance(sender, str) else "",
        payload=payload,
        parent=fields.get("parent", ""),
        attempts=int(fields.get("attempts", 0)),
        throttles=int(fields.get("throttles", 0)),
        crashes=int(fields.get("crashes", 0)),
        expires=int(fields["expires"]) if "expires" in fields else None,
        waiting=int(fields.get("waiting", 0)),
        intent=json.loads(fields["intent"]) if "intent" in fields else None,
        steps={
            name.removeprefix(STEP): json.loads(value)
            for name, value in fields.items()
            if name.startswith(STEP)
        },
        created=int(fields["created"]),
        time=RedisTime(now),
        losses=int(fields.get("losses", 0)),
        requeued="requeued" in fields,
        turn=fields.get("turn", ""),
        queue=fields["queue"],
        started=int(fields.get("started", 0)),
        retried=int(fields.get("retried", 0)) / 1000,
        batch_key=fields.get("batch_key", ""),
        recipients=int(fields.get("recipients", 0)),
        summary=fields.get("summary", ""),
        trace=fields.get("trace", ""),
    )


def _lane(name: str) -> Lane:
    match name:
        case "urgent" | "normal" | "bulk":
            return name
        case _:
            return "normal"
