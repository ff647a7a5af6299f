"""A message of a job as Celery's worker holds it."""

from typing import Any

from celery.worker.request import Request

from dingrelay_workers.job_task import JobTask


class JobRequest(Request):  # type: ignore[misc]  # celery ships no types
    """Leaves to the job's record what Celery keeps in the memory of one worker."""

    def revoked(self) -> bool:
        """Whether the message is left: it is if it has expired, as its client wished.

        A revoked job is cancelled in its record (`remote_control.py`), which a restart doesn't undo
        and a requeue does.
        """
        return bool(self.expires and self.maybe_expire() and super().revoked())

    def terminate(self, pool: Any, signal: Any = None) -> None:
        """The job is cancelled; the process, which other jobs share, goes on."""
        task: JobTask = self.task
        task.runtime.submit(lambda engine: engine.revocations.revoke([self.id]))

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """The worker stops at once: its jobs are given back by themselves."""
