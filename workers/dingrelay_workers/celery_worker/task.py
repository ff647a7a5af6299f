"""A kind of job as a Celery task."""

from collections.abc import Mapping
from typing import Any

from celery.app.task import Task

from dingrelay_tasks.kinds import TASK_PREFIX, Kind
from dingrelay_workers.celery_worker.event_loop import Runtime
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
    Request = "dingrelay_workers.celery_worker.job_request:JobRequest"
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
