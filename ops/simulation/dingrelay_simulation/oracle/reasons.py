"""Reasons: a job that ended without success, or waits before its next attempt, does so for a true reason."""

from collections.abc import Iterator

from dingrelay_producers.store.states import State
from dingrelay_simulation.oracle.evidence import Evidence, Violation
from dingrelay_workers.dingtalk.classify import UNREADABLE

MARGIN = 0.3
"""Seconds by which moments may be off that two processes took."""
PASSING = frozenset({"credentials", "held", "throttled", "outage"})
"""Classes of errors that end no job: what they say passes, or is mended by a person."""


def check_expired(evidence: Evidence) -> Iterator[Violation]:
    """A job expires by Redis' clock, not before its time."""
    for request in evidence.requests.jobs:
        status = evidence.statuses.get(request.job)
        if not status or status.state != State.EXPIRED or request.accepted != "yes":
            continue
        expires_in = request.values.get("expires_in")
        ends = [at for at, _ in evidence.ends.get(request.job, ())]
        if not expires_in:
            yield Violation("untrue", f"{request.job} expired without an end", request.job)
        elif ends and max(ends) + evidence.redis_skew < request.at + expires_in - MARGIN:
            text = f"{request.job} expired at {max(ends):.2f}, before its expires_at"
            yield Violation("untrue", text, request.job)


def check_dead(evidence: Evidence) -> Iterator[Violation]:
    """No job dies of what passes."""
    for job, status in evidence.statuses.items():
        if not status or status.state != State.DEAD or not status.error:
            continue
        if status.error.error_class in PASSING or status.error.code == UNREADABLE:
            text = f"{job} is dead: {status.error.error_class} {status.error.code}"
            yield Violation("dead", text, job)


def check_pauses(evidence: Evidence) -> Iterator[Violation]:
    """A job that was put off after a failure is not run, and makes no call, before its time."""
    for request in evidence.single_requests:
        commanded = [
            command.at for command in evidence.requests.commands if command.job == request.job
        ]
        for at, seconds in evidence.pauses.get(request.job, ()):
            until = at + seconds - MARGIN
            if any(at <= moment <= until for moment in commanded):
                continue
            early = [
                attempt.left
                for attempt in evidence.attempts_by_tag.get(request.tag, ())
                if at + MARGIN < attempt.left < until and not evidence.forgotten(at, attempt.left)
            ]
            if not request.values.get("expires_in"):
                early += [
                    moment
                    for moment in _runs(evidence, request.job)
                    if at + MARGIN < moment < until and not evidence.forgotten(at, moment)
                ]
            if early:
                text = f"{request.job} was put off at {at:.2f} for {seconds:g} s and run at {early[0]:.2f}"
                yield Violation("early", text, request.job)


def _runs(evidence: Evidence, job: str) -> list[float]:
    """When runs of a job led to its end, or to another pause."""
    moments = (*evidence.ends.get(job, ()), *evidence.pauses.get(job, ()))
    return [at for at, _ in moments]
