"""A kind of job as a Celery task, and a message of one as Celery's worker holds it."""

from collections.abc import Coroutine, Mapping
from typing import Any

from celery.app.task import Task
from celery.worker.request import Request

from dingrelay_tasks.kinds import TASK_PREFIX, Kind
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.dingtalk.redact import redact
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.store.wakeup import ReceivedWakeup


class JobTask(Task):  # type: ignore[misc]  # celery ships no types
    """Runs the jobs of one kind.

    Attributes:
        kind: of the jobs.
        runtime: where they run.
    """

    abstract = True
    # `typing` would refuse wrong arguments before they reach us, and the job would be lost.
    typing = False
    # Celery's own events are off; `task_events.py` emits job events.
    send_events = False
    Request = f"{__name__}:JobRequest"
    kind: Kind
    runtime: Runtime

    async def run_job(self, request: Mapping[str, Any], executor: Executor) -> None:
        """One run, on the loop, if the message finds anything to do.

        Args:
            request: the message's headers with ``args``, ``kwargs`` and ``delivery_info``.
            executor: of this process.
        """
        await executor.execute(ReceivedWakeup.from_request(self.kind, request))


class NewerKindTask(JobTask):
    """Leaves jobs of kinds that this release does not know to workers of a newer one.

    Celery would drop their wake-ups, and each of them would be missed for half a minute.
    """

    abstract = True
    name = TASK_PREFIX + "of-a-newer-release"

    async def run_job(self, request: Mapping[str, Any], executor: Executor) -> None:
        """Have the job woken again."""
        await executor.leave(str(request["id"]), str(request.get("shadow")))


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

        A revoked job is cancelled in its record (`controls.py`), which a restart doesn't undo
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
