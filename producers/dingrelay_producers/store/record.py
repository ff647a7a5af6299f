"""The job record: its fields, and the scripts that producers run.

The record is the truth; the Celery message is a wake-up. `enqueue` writes the record and puts the
id where the scheduler finds it in one script, so once it has returned the job is accepted, even if
the wake-up is never published. Where the broker is the same Redis that script publishes it.
"""

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, transitions
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.transitions import Untaken, WrittenJob
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import Contract, Deliverable, batched, check_size
from dingrelay_tasks.kinds import KINDS
from dingrelay_tasks.sentence import en

BATCH_KEY_DIGITS = 32
"""Digits of the content's digest: 128 bits keep texts apart, and a key that Redis holds twice a job is short."""
NEWER = b"newer"
"""Answer of scripts that leave a record alone since a newer release wrote it."""

LATE, OVER, EARLY = b"late", b"over", b"early"
"""Answers of `postpone` for a job that need not run any more by then, a moment that is over, and one before that which it waits for."""
WOKEN_AT_ONCE = 100
"""Jobs of one call of that script: some ten commands each, in which Redis serves no other client."""
TOGETHER = 50
"""Jobs that one call of the script accepts at most: what they share is done once, and Redis does nothing else
for less than a millisecond."""
TOGETHER_SIZE = 100_000
"""Characters that the jobs of one call ask for at most, for the same reason; a larger job goes alone."""
_NAMESPACE = uuid.UUID("5d0f3c5e-6e0b-4a55-9a0e-0d6c2f1f7a11")


# Tuples: made for each job, and in a third of the time that frozen dataclasses take.
class Draft(NamedTuple):
    """A job about to be written: everything that its record holds at first."""

    id: str
    kind: str
    app: str
    lane: str
    queue: str
    job: Any
    summary: str
    due: int = 0
    """Milliseconds since the epoch before which it must not run; 0 for now."""
    expires: int | None = None
    """Milliseconds since the epoch after which it need not run; None for never."""
    parent: str = ""
    bare: bool = False
    """Made from the message of a client without our package, which may come again."""
    batch_key: str = ""
    """Key of the index for calls that carry several jobs; empty if the job goes alone."""
    recipients: int = 0
    """How many recipients it adds to such a call."""
    sender: str = ""
    """The sender."""
    trace: str = ""
    """The trace that it belongs to (`tracing.spans`), where that is not its enqueuer's."""
    has_key: bool = True
    """Whether the id follows from a key, so that the job may be enqueued again after it was discarded."""
    text: str = ""
    """`payload`, where it was made to see that the job is not too large."""

    @property
    def payload(self) -> str:
        """The contract as canonical JSON."""
        return self.text or canonical_json(self.job)


class Wakeup(NamedTuple):
    """A Celery message to publish: look at this job. What it asks for is in its record only."""

    id: str
    kind: str
    queue: str
    app: str
    lane: str
    summary: str
    at: int
    """When it was decided on, in milliseconds of Redis's clock; shows which wake-ups are lost."""


Envelope = tuple[str, str, str, str]
"""A wake-up for a broker that is a Redis: its message up to the time at which it was decided on, and what follows that; the
channel of the Celery event for it, empty for none, and what is published there."""


# `json.dumps` would make an encoder at each call.
_READABLE = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))
_ASCII = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def canonical_json(value: Any) -> str:
    """The same text for the same value, whatever the order of its fields; always valid UTF-8."""
    text = _READABLE.encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        return _ASCII.encode(value)
    return text


def digest(payload: str) -> str:
    """The digest by which payloads are compared."""
    return hashlib.sha256(payload.encode()).hexdigest()[:32]


def asked_digest(job: Any, payload: str | None = None) -> str:
    """The digest by which requests with one key are compared, without the sender: its name may change.

    `payload` is the job as canonical JSON, where that is known.
    """
    if isinstance(job, dict) and "sender" in job:
        job = {name: value for name, value in job.items() if name != "sender"}
        payload = None
    return digest(canonical_json(job) if payload is None else payload)


def keyed_id(app: str, kind: str, key: str) -> str:
    """The id that belongs to an idempotency key."""
    return str(uuid.uuid5(_NAMESPACE, f"{app}\n{kind}\n{key}"))


def draft(
    contract: Contract,
    *,
    key: str | None = None,
    parent: str = "",
    sender: str = "",
    trace: str = "",
) -> Draft:
    """The draft of a contract.

    `key` stands in for the contract's own identity, `sender` for a sender that it doesn't
    name.

    Raises:
        ContractError: the job is too large.
    """
    if sender and not contract.sender:
        contract = contract.model_copy(update={"sender": sender})
    key = key or contract.identity
    due = expires = None
    if isinstance(contract, Deliverable):
        due, expires = milliseconds(contract.send_at), milliseconds(contract.expires_at)
    job = contract.wire()
    text = canonical_json(job)
    check_size(job, text)
    return Draft(
        id=keyed_id(contract.app, contract.kind, key) if key else str(uuid.uuid4()),
        kind=contract.kind,
        app=contract.app,
        lane=contract.lane,
        queue=contract.queue,
        job=job,
        summary=contract.summary(),
        due=due or 0,
        expires=expires,
        parent=parent,
        batch_key=batch_key(contract),
        recipients=contract.recipients,
        sender=contract.sender,
        trace=trace,
        has_key=bool(key),
        text=text,
    )


def batch_key(contract: Contract) -> str:
    """The key under which a job waits for a call that carries several; empty if it goes alone."""
    content = contract.batch_digest
    return keys.waiting(contract.app, content[:BATCH_KEY_DIGITS]) if content else ""


def moment_of(milliseconds: str | int) -> datetime:
    """The moment so many milliseconds after the epoch."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)


def milliseconds(moment: datetime | None) -> int | None:
    """A moment since the epoch; None for none. 1970 is a time."""
    return None if moment is None else int(moment.timestamp() * 1000)


def longest_life_ms(settings: Settings) -> int:
    """How long an untouched job record can live, in ms."""
    return int(settings.dead_ttl * 1000) + keys.JOB_MARGIN_MS


def is_newer(fields: Mapping[bytes, bytes]) -> bool:
    """Whether a newer release wrote a record, in a way that this one does not know."""
    version = fields.get(b"v", b"0")
    return version.isdigit() and int(version) > transitions.RECORD_FORMAT


def lives_of_ended(settings: Settings) -> dict[str, int]:
    """How long records of ended jobs live, in ms, as arguments of `cancel`."""
    return {
        "record_ttl_ms": int(settings.record_ttl * 1000),
        "dead_ttl_ms": int(settings.dead_ttl * 1000),
    }


class Enqueued(NamedTuple):
    """Answer of `enqueue`."""

    created: bool
    conflict: bool
    wakeup: Wakeup | None
    """The message still to publish; None if there is none: the job exists already, is due later, or
    the script has published it."""
    at: int = 0
    """When it was accepted, in ms of Redis's clock; 0 if it was not."""


def written(draft: Draft, envelope: Envelope | None = None) -> WrittenJob:
    """A job as `enqueue_all` takes it.

    `envelope` is its wake-up, if that is to be published in the same step.

    Raises:
        ContractError: the job is too large.
    """
    payload = draft.payload
    check_size(draft.job, payload)
    return WrittenJob(
        draft.id,
        draft.kind,
        draft.app,
        draft.lane,
        draft.queue,
        payload,
        asked_digest(draft.job, payload),
        draft.summary,
        draft.due,
        draft.expires,
        draft.parent,
        draft.bare,
        draft.batch_key,
        draft.recipients,
        draft.sender,
        draft.trace or spans.current(),
        draft.has_key,
        _is_looked_for(draft.kind),
        *(envelope or ()),
    )


@cache
def _is_looked_for(kind_name: str) -> bool:
    kind = KINDS.get(kind_name)
    return kind is not None and bool(kind.changing_step)


def enqueue(draft: Draft, *, fence: tuple[str, str] | None = None) -> Call:
    """Write the record, unless there is one, and put the job in its place. Its wake-up is not published.

    `fence` is a lease's key and value: nothing is written unless it has that value then.

    Raises:
        ContractError: the job is too large.
    """
    return _enqueue_together([written(draft)], fence)


def enqueue_all(jobs: Iterable[WrittenJob], fence: tuple[str, str] | None = None) -> list[Call]:
    """Like `enqueue`, for many jobs: one call for `TOGETHER` of them, or for fewer that are large."""
    calls: list[Call] = []
    together: list[WrittenJob] = []
    size = 0
    for job in jobs:
        job_size = len(job.payload)
        if together and (len(together) == TOGETHER or size + job_size > TOGETHER_SIZE):
            calls.append(_enqueue_together(together, fence))
            together, size = [], 0
        together.append(job)
        size += job_size
    if together:
        calls.append(_enqueue_together(together, fence))
    return calls


def _enqueue_together(jobs: Sequence[WrittenJob], fence: tuple[str, str] | None = None) -> Call:
    lease, holder = fence or (None, "")
    return transitions.enqueue(
        recent=keys.RECENT,
        lease=lease,
        holder=holder,
        recent_size=keys.RECENT_JOBS,
        recent_ttl=keys.RECENT_TTL_MS,
        batch_key_ttl=keys.WAITING_TTL_MS,
        jobs=jobs,
    )


def each_answer(calls: Iterable[Call], answers: Iterable[Any]) -> Iterator[Any]:
    """The answers of `enqueue_all`'s calls, one a job: for `enqueued`, or the error of its call."""
    for call, answer in zip(calls, answers, strict=True):
        if isinstance(answer, Exception):
            yield from repeat(answer, len(call.arguments) // len(WrittenJob._fields))
        else:
            yield from zip(answer[::2], answer[1::2], strict=True)


def enqueued(draft: Draft, answer: tuple[bytes, int]) -> Enqueued:
    """Read the answer of `enqueue`: a verdict, and when the job was accepted."""
    verdict, at = answer
    wakeup = None
    if verdict == b"unpublished":
        wakeup = Wakeup(draft.id, draft.kind, draft.queue, draft.app, draft.lane, draft.summary, at)
    return Enqueued(at > 0, verdict == b"conflict", wakeup, at)


def wake(job_id: str) -> Call:
    """Have a job that waits for something else looked at now. Answers 1 if it does."""
    return transitions.wake(jobs=[Untaken(job_id, None)])


def unpublished(wakeups: Sequence[Wakeup]) -> list[Call]:
    """Have the scheduler publish wake-ups that the broker did not take.

    Left where they are they would count as published, and be found lost after a grace.
    """
    return [
        transitions.wake(jobs=[Untaken(wakeup.id, wakeup.at) for wakeup in batch])
        for batch in batched(wakeups, WOKEN_AT_ONCE)
    ]


CANCELLED_TOO_LATE = {
    "class": "unknown",
    "code": "cancelled",
    "message": en("cancelled after a call whose answer was lost; it may have been carried out"),
    "hint": en("Look in DingTalk whether it happened, and tell it with `dingrelay job resolve`."),
}
"""The error of a job that was to be cancelled and is unknown."""


def cancel(job_id: str, *, record_ttl_ms: int, dead_ttl_ms: int) -> Call:
    """End a job that does not run. Answers its state then, `NEWER`, or nil if there is no such job.

    It is cancelled, or unknown if the answer to a call of it was lost. A running job is marked:
    should it be parked, it ends so instead.
    """
    return transitions.cancel(
        record=keys.job(job_id),
        dead=keys.DEAD,
        job=job_id,
        ttl=record_ttl_ms,
        dead_ttl=dead_ttl_ms,
        lost=canonical_json(CANCELLED_TOO_LATE),
    )


def withdraw(job_id: str, *, record_ttl_ms: int) -> Call:
    """Like `cancel`, for callers that requeue the job later: it is always cancelled, never unknown."""
    ttl = record_ttl_ms
    return transitions.cancel(
        record=keys.job(job_id), dead=keys.DEAD, job=job_id, ttl=ttl, dead_ttl=ttl, lost=""
    )


def requeue(job_id: str) -> Call:
    """Give an ended job another life, with what it has already done remembered.

    Answers its state before, `NEWER`, or nil if there is no such job. Only dead, unknown, cancelled and
    expired jobs are requeued. They run at once, but not before their `send_at`; an `expires_at`
    that is over is forgotten.
    """
    return transitions.requeue(record=keys.job(job_id), dead=keys.DEAD, job=job_id)


def postpone(job_id: str, until: datetime, *, rehearsal: bool = False) -> Call:
    """Have a job that waits not run before a moment; in a rehearsal only say how that would go.

    Answers its state, `NEWER`, `LATE`, `OVER`, `EARLY`, or nil if there is no such job.
    """
    moment = int(until.timestamp() * 1000)
    return transitions.postpone(
        record=keys.job(job_id), job=job_id, moment=moment, rehearsal=rehearsal
    )


def discard(job_id: str, *, ended: bool = False, settled: str = "") -> Call:
    """Delete a dead or unknown job for good. Answers 1 if it was there.

    No message makes it again, however late it comes; enqueueing it by its key does.

    `ended` forgets one that has ended in whatever way; `settled` one that ended at this moment, as its record has it,
    and has had no other life since.
    """
    return transitions.discard(
        record=keys.job(job_id),
        dead=keys.DEAD,
        recent=keys.RECENT,
        job=job_id,
        ended=ended or bool(settled),
        settled=settled or None,
    )


def read(job_id: str, *, payload: bool = False) -> Call:
    """The record, without its payload, which may be large, unless that is asked for; `fields` reads the answer."""
    return transitions.read_records(
        records=[keys.job(job_id)], longest=None, with_payload=[payload]
    )


def fields(answer: Sequence[Sequence[bytes]]) -> dict[bytes, bytes]:
    """The fields that `read` found; none if there is no such job."""
    (pairs,) = answer
    return dict(zip(pairs[::2], pairs[1::2], strict=True))
