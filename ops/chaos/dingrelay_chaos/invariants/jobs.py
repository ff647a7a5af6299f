"""1: every accepted job is in an end state, or waits for something that is named."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from dingrelay_chaos.evidence import Evidence, Finding
from dingrelay_chaos.operations import Send
from dingrelay_producers import JobStatus, State

LATE_SECONDS = 10
"""A job that waits may be looked at so much later than it is due."""
PASSING = frozenset({"transient", "outage", "credentials", "held", "throttled", "ambiguous"})
"""Classes of errors that pass. Nothing goes wrong for longer than 15 s in a run, so a job that
dies of one was given up too early."""
INNER = frozenset({"event", "missed-events", "approval-follow"})
"""Kinds that the system asks for itself."""


def violations(evidence: Evidence) -> Iterator[Finding]:
    """Jobs that were lost, hang, or died of what was news for the fleet."""
    for job, kind in evidence.requests.accepted().items():
        status = evidence.statuses[job]
        if status is None:
            if not _may_be_gone(evidence, job):
                yield f"the {kind} {job} was accepted and has no record", job
        elif not status.state.ended:
            yield from _waiting(status, kind)
        elif status.state == State.DEAD:
            yield from _dead(status, kind)
    yield from _keys(evidence)
    yield from _inner(evidence)
    for service in evidence.system.services:
        for failure in service.failures:
            yield f"{failure} by itself", ""


def _may_be_gone(evidence: Evidence, job: str) -> bool:
    if job in evidence.discarded:
        return True
    asked = [each for each in evidence.requests.jobs if each.job == job]
    return any(evidence.lost_between(each.at, each.answered) for each in asked)


def _waiting(status: JobStatus, kind: str) -> Iterator[Finding]:
    if status.state not in {State.SNOOZED, State.RETRYING} or status.due_at is None:
        yield f"the {kind} {status.id} is {status.state} for ever", status.id
        return
    late = (datetime.now(UTC) - status.due_at).total_seconds()
    if late > LATE_SECONDS:
        text = f"the {kind} {status.id} is {status.state} and {late:.0f} s overdue"
        yield text, status.id


def _dead(status: JobStatus, kind: str) -> Iterator[Finding]:
    error = status.error
    if error is None:
        yield f"the {kind} {status.id} is dead without a reason", status.id
    elif error.error_class in PASSING:
        text = (
            f"the {kind} {status.id} died of what passes: "
            f"{error.error_class} {error.code} {error.message!r} after {status.attempts} attempts"
        )
        yield text, status.id


def _inner(evidence: Evidence) -> Iterator[Finding]:
    """Internal jobs must not die of passing faults."""
    for job, kind, error in evidence.system_state.dead:
        document = json.loads(error or "{}")
        if kind in INNER and document.get("class") != "poison":
            yield f"the {kind} {job} died: {error[:200]}", job


def _keys(evidence: Evidence) -> Iterator[Finding]:
    """Equal keys are one job, and a key holds one payload."""
    messages = evidence.requests.of(Send)
    by_step = {each.step: each for each in messages}
    for request in messages:
        first = None if request.what.same_as is None else by_step.get(request.what.same_as)
        if first is None or first.accepted != "yes" or first.at > request.at:
            continue
        if first.job in evidence.discarded or evidence.lost_between(first.at, first.answered):
            continue
        same = first.what.tag == request.what.tag
        if same and request.accepted == "yes" and request.job != first.job:
            yield f"one key, two jobs: {first.job} and {request.job}", request.job
        if request.accepted == ("no" if same else "yes"):
            word = "refused" if same else "taken"
            yield f"a key's job was wrongly {word} again: {request.job}", request.job
