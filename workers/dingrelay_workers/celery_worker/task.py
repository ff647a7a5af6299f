"""A kind of job as a Celery task, and what Celery is told of its runs."""

from collections.abc import Mapping
from typing import Any

from celery.app.task import Task
from celery.exceptions import Retry

from dingrelay_producers.store.states import State
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.store.wakeup import ReceivedWakeup

LEFT = "left to another worker"
"""What Celery is told of a run that found nothing to do."""


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
        return _in_celerys_words(
            await executor.execute(ReceivedWakeup.from_request(self.kind, request))
        )


def _in_celerys_words(outcome: Outcome | None) -> str | JobWaits | JobFailed:
    if outcome is None:
        return LEFT
    words = f"{outcome.state}: {outcome.reason}"
    if not outcome.state.ended:
        return JobWaits(message=words, when=outcome.delay)
    if outcome.state in {State.DEAD, State.UNKNOWN, State.EXPIRED}:
        return JobFailed(words)
    return str(outcome.state)
