"""Celery's events of tasks, which Flower shows: one story for each run of a job.

Celery's own events concern messages. A wake-up is one, and may find nothing to do: another worker
has the job, or a batch has claimed it. And a job that a batch has claimed runs without a message.
So Celery's own events of our tasks are off, and these are emitted where a run begins and ends. The consumer
sends what was collected, a few times a second.
"""

import time
from collections import deque
from typing import Any

from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import Json
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.jobs.executor import Observer
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.store.records import Claim

MOST_EVENTS = 10_000
"""Events that are collected at most, for instance while the broker is away."""
SHOWN = 200
"""Characters of a result at most, in an event."""


class TaskEvents(Observer):
    """Sends Celery's events of tasks as runs of jobs begin and end."""

    def __init__(self) -> None:
        self._dispatcher: Any = None
        self._collected: deque[tuple[str, dict[str, Any]]] = deque(maxlen=MOST_EVENTS)

    def send_through(self, dispatcher: Any) -> None:
        """Send events through this dispatcher from now on: each connection to the broker has its own."""
        self._dispatcher = dispatcher

    def flush(self) -> None:
        """Send what was collected; in the consumer's thread."""
        while self._collected:
            event, fields = self._collected.popleft()
            if self._dispatcher is not None:
                self._dispatcher.send(event, **fields)

    def began(self, kind: Kind, claim: Claim) -> None:
        """A run has begun."""
        self._send(
            "task-received",
            claim,
            name=kind.task,
            kwargs=claim.summary,
            retries=claim.attempts,
        )
        self._send("task-started", claim)

    def ended(
        self, kind: Kind, claim: Claim, outcome: Outcome, state: State, seconds: float
    ) -> None:
        """A run has ended."""
        reason = words(outcome, state)
        match state:
            case State.DONE | State.DUPLICATE:
                self._send("task-succeeded", claim, result=reason, runtime=seconds)
            case State.DEAD | State.UNKNOWN | State.EXPIRED:
                self._send("task-failed", claim, exception=reason, traceback="")
            case State.CANCELLED:
                self._send("task-revoked", claim, terminated=False, signum=None, expired=False)
            case _:
                self._send("task-retried", claim, exception=reason, traceback="")

    def _send(self, event: str, claim: Claim, **fields: Any) -> None:
        self._collected.append((event, {"uuid": claim.id, "timestamp": time.time(), **fields}))


def words(outcome: Outcome, state: State) -> str:
    """The result of a run in words: why a job waits or failed, or what it has done."""
    if state in {State.DONE, State.DUPLICATE}:
        return f"{state} {_summary_of(outcome.result or {})}".strip()[:SHOWN]
    return f"{state}: {outcome.reason}"


def _summary_of(result: Json) -> str:
    """How many people a result names, and DingTalk's ids in it: no name, and nothing that was written."""
    fields: dict[str, object] = {}
    for name, value in result.items():
        if name == "calls" and isinstance(value, list):
            tasks = [call.get("task_id") for call in value if isinstance(call, dict)]
            fields["task_id"] = ",".join(str(task) for task in tasks if task)
        elif name.endswith("_id") or (isinstance(value, int) and not isinstance(value, bool)):
            fields[name] = value
        elif isinstance(value, list):
            fields[name] = len(value)
    return " ".join(f"{name}={value}" for name, value in fields.items() if value)
