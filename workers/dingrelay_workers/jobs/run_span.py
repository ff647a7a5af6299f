"""The span of one run of a job: of the job's trace, by OpenTelemetry's conventions for messaging."""

from contextlib import AbstractContextManager

from opentelemetry.trace import Span

from dingrelay_producers.store.states import State
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.store.claim import Claim

FAILED = frozenset({State.DEAD, State.UNKNOWN})
"""Ends that need attention. A run after which the job waits has not failed."""


def running(kind: Kind, claim: Claim) -> AbstractContextManager[Span]:
    """Span around a run. Its calls are part of the trace, and so are the jobs that it enqueues."""
    return spans.span(
        f"process {kind.task}",
        "CONSUMER",
        parent=claim.trace,
        attributes=lambda: _of_job(kind, claim),
    )


def ended(span: Span, outcome: Outcome, state: State | None) -> None:
    """Record the result of the run: the job's state, or None if it is another worker's by now.

    A reason is not recorded: it may be DingTalk's sentence about a person.
    """
    if not span.is_recording():
        return
    attributes: dict[str, str | int | float | bool] = {"dingrelay.state": str(state or "lost")}
    error = outcome.error or {}
    if error and state is not None:
        attributes["dingrelay.error.code"] = str(error.get("code", ""))
        attributes[spans.ERROR_TYPE] = str(error.get("class", ""))
    if state is not None and not state.ended:
        attributes["dingrelay.delay"] = round(outcome.delay, 3)
    span.set_attributes(attributes)
    if state in FAILED:
        spans.fail(span, str(error.get("class") or state))


def _of_job(kind: Kind, claim: Claim) -> Attributes:
    return {
        "messaging.system": "dingrelay",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": claim.queue,
        "messaging.message.id": claim.id,
        "dingrelay.kind": kind.name,
        "dingrelay.app": claim.app,
        "dingrelay.lane": claim.lane,
        "dingrelay.attempt": claim.attempts + 1,
    }
