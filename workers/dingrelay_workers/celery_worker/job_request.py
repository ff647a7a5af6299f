"""A message of a job as Celery's worker holds it."""

from collections.abc import Coroutine
from typing import Any

from celery.worker.request import Request

from dingrelay_workers.celery_worker.task import JobTask
from dingrelay_workers.dingtalk.redact import redact
from dingrelay_workers.jobs.executor import Executor


class JobRequest(Request):  # type: ignore[misc]  # celery ships no types
    """Leaves to the job's record what Celery keeps in the memory of one worker."""

    @property
    def kwargsrepr(self) -> str:
        """What Celery shows of the message, to ``inspect`` for instance.

        The message of a client without our package holds the job itself, perhaps with a token in it.
        """
        shown: str = super().kwargsrepr
        return redact(shown, None)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """What ``inspect`` shows of the job; see `kwargsrepr`."""
        shown: dict[str, Any] = super().info(safe=safe)
        return {**shown, "kwargs": self.kwargsrepr}

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
