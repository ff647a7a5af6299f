"""A message of a job as Celery's worker holds it."""

from collections.abc import Coroutine
from typing import Any

from celery.worker.request import Request

from dingrelay_workers.celery_worker.task import JobTask
from dingrelay_workers.jobs.executor import Executor


class JobRequest(Request):  # type: ignore[misc]  # celery ships no types
    """Leaves to the job's record what Celery keeps in the memory of one worker."""

    def revoked(self) -> bool:
        """Whether the message is left: never.

        A revoked job is cancelled in its record (`remote_control.py`), which a restart doesn't undo
        and a requeue does. One whose message has expired gets a record, too, and ends `expired`.
        """
        return False

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """The job is cancelled; the process, which other jobs share, goes on."""
        task: JobTask = self.task
        job_id: str = self.id

        def revoke(executor: Executor) -> Coroutine[Any, Any, None]:
            return executor.resources.revocations.revoke([job_id])

        task.runtime.submit(revoke)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """The worker stops at once: its jobs are given back by themselves."""
