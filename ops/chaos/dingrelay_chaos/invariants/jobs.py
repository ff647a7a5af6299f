"""1: every accepted job is in an end state, or waits for something that is named."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from dingrelay_chaos.evidence import Evidence, Violation
from dingrelay_chaos.faults.valkey import ValkeyFailsOver, ValkeyFreezes, ValkeyRestarts
from dingrelay_chaos.faults.workers import WorkerEnds
from dingrelay_chaos.system import System
from dingrelay_producers import JobStatus, State

LATE_SECONDS = 10
"""A job that waits may be looked at so much later than it is due."""
PASSING = frozenset({"transient", "outage", "credentials", "held", "throttled", "ambiguous"})
"""Classes of errors that pass. Nothing goes wrong for longer than 15 s in a run, so a job that
dies of one was given up too early."""
INNER = frozenset({"event", "missed-events", "approval-follow"})
"""Kinds that the system asks for itself."""
LOSING = (WorkerEnds, ValkeyRestarts, ValkeyFailsOver, ValkeyFreezes)
"""Faults under which Celery itself loses or delays a message."""


def violations(evidence: Evidence, system: System) -> Iterator[Violation]:
    """Jobs that were lost, hang, or died of what was news for the fleet."""
    for job, kind in evidence.requests.jobs().items():
        status = evidence.statuses[job]
        if status is None:
            if not _may_be_gone(evidence, job):
                yield Violation(1, f"the {kind} {job} was accepted and has no record", job)
        elif not status.state.ended:
            yield from _waiting(status, kind)
        elif status.state == State.DEAD:
            yield from _dead(status, kind)
    yield from _keys(evidence)
    yield from _inner(evidence)
    for worker in system.workers:
        for failure in worker.failures:
            yield Violation(1, f"a worker ended by itself: {failure}")
    for failure in (*system.gateway.failures, *system.door.failures):
        yield Violation(1, failure)


def _may_be_gone(evidence: Evidence, job: str) -> bool:
    if job in evidence.discarded or job in evidence.unacked:
        return True
    if any(evidence.forgotten(each) for each in evidence.requests.everything() if each.job == job):
        return True
    bare = any(each.job == job and each.bare for each in evidence.requests.messages)
    losing = any(isinstance(step.what, LOSING) for step in evidence.schedule.steps)
    return bare and losing


def _waiting(status: JobStatus, kind: str) -> Iterator[Violation]:
    if status.state not in {State.SNOOZED, State.RETRYING} or status.due_at is None:
        yield Violation(1, f"the {kind} {status.id} is {status.state} for ever", status.id)
        return
    late = (datetime.now(UTC) - status.due_at).total_seconds()
    if late > LATE_SECONDS:
        text = f"the {kind} {status.id} is {status.state} and {late:.0f} s overdue"
        yield Violation(1, text, status.id)


def _dead(status: JobStatus, kind: str) -> Iterator[Violation]:
    error = status.error
    if error is None:
        yield Violation(1, f"the {kind} {status.id} is dead without a reason", status.id)
    elif error.error_class in PASSING:
        text = (
            f"the {kind} {status.id} died of what passes: "
            f"{error.error_class} {error.code} {error.message!r} after {status.attempts} attempts"
        )
        yield Violation(1, text, status.id)


def _inner(evidence: Evidence) -> Iterator[Violation]:
    """What nobody asked for carries events, approvals and webhooks, and dies of nothing that passes.

    A webhook is tried for three days.
    """
    for job, kind, error in evidence.system_state.dead:
        document = json.loads(error or "{}")
        if kind in INNER and document.get("class") != "poison":
            yield Violation(1, f"the {kind} {job} died: {error[:200]}", job)


def _keys(evidence: Evidence) -> Iterator[Violation]:
    """Equal keys are one job, and a key holds one payload."""
    by_step = {each.step: each for each in evidence.requests.messages}
    for request in evidence.requests.messages:
        first = by_step.get(request.same_as) if request.same_as is not None else None
        if first is None or first.accepted != "yes" or first.at > request.at:
            continue
        if first.job in evidence.discarded or evidence.forgotten(first):
            continue
        same = first.content == request.content
        if same and request.accepted == "yes" and request.job != first.job:
            yield Violation(1, f"one key, two jobs: {first.job} and {request.job}", request.job)
        if request.accepted == ("no" if same else "yes"):
            word = "refused" if same else "taken"
            yield Violation(1, f"a key's job was wrongly {word} again: {request.job}", request.job)
