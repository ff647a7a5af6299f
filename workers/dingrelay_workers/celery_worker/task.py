"""A kind of job as a Celery task, and what Celery is told of its runs."""

from collections.abc import Mapping
from typing import Any

from celery.app.task import Task
from celery.exceptions import Retry

from dingrelay_producers.store.states import State
from dingrelay_tasks.context import Json
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.store.wakeup import ReceivedWakeup

LEFT = "left to another worker"
"""What Celery is told of a run that found nothing to do."""


SHOWN = 200
"""Characters of a result at most, in an event of Celery's."""


class JobWaits(Retry):  # type: ignore[misc]  # celery ships no types
    """A job waits on the schedule. Shows in Flower as RETRY, with the reason."""

    def __repr__(self) -> str:
        # Celery's event carries the repr, and Retry's own one holds itself and no reason.
        return str(self)

    @property
    def exc(self) -> "JobWaits":
        """Itself: Celery tells of what is in here."""
        return self

    @exc.setter
    def exc(self, _: object) -> None:
        """Nothing: `Retry` wants to set it."""


class JobFailed(Exception):
    """A job ended otherwise than done. Shows in Flower as FAILURE, with the reason."""

    def __repr__(self) -> str:
        return str(self)


class JobTask(Task):  # type: ignore[misc]
    """Runs the jobs of one kind.

    Attributes:
        kind: of the jobs.
        runtime: where they run.
    """

    abstract = True
    # `typing` would refuse wrong arguments before they reach us, and the job would be lost.
    typing = False
    throws = (JobFailed,)
    Request = "dingrelay_workers.celery_worker.job_request:JobRequest"
    kind: Kind
    runtime: Runtime

    async def run_job(
        self, request: Mapping[str, Any], executor: Executor
    ) -> str | JobWaits | JobFailed:
        """One run, on the loop; where it led, in Celery's words.

        Args:
            request: the message's headers with ``args``, ``kwargs`` and ``delivery_info``.
            executor: of this process.
        """
        return in_celerys_words(
            await executor.execute(ReceivedWakeup.from_request(self.kind, request))
        )


def in_celerys_words(outcome: Outcome | None) -> str | JobWaits | JobFailed:
    """Where a run led, as Flower shows it; None: it found nothing to do."""
    if outcome is None:
        return LEFT
    words = f"{outcome.state}: {outcome.reason}"
    if not outcome.state.ended:
        return JobWaits(message=words, when=outcome.delay)
    if outcome.state in {State.DEAD, State.UNKNOWN, State.EXPIRED}:
        return JobFailed(words)
    return f"{outcome.state} {_shown(outcome.result or {})}".strip()[:SHOWN]


def _shown(result: Json) -> str:
    """How many people a result names, and DingTalk's ids in it: no name, and nothing that was written."""
    found: dict[str, object] = {}
    for name, value in result.items():
        if name == "calls" and isinstance(value, list):
            tasks = [call.get("task_id") for call in value if isinstance(call, dict)]
            found["task_id"] = ",".join(str(task) for task in tasks if task)
        elif name.endswith("_id") or (isinstance(value, int) and not isinstance(value, bool)):
            found[name] = value
        elif isinstance(value, list):
            found[name] = len(value)
    return " ".join(f"{name}={value}" for name, value in found.items() if value)
