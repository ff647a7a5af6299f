"""The Celery pool whose slots are coroutines: jobs run on the process's event loop.

A job waits most of its time, for a limit or for DingTalk. In a thread each of its waits would cost
a change of threads, and a thread its memory.
"""

import os
import time
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.app.task import Task
from celery.concurrency.thread import TaskPool
from celery.exceptions import Reject
from celery.worker.request import Request
from structlog.stdlib import get_logger

from dingrelay_tasks.kinds import TASK_PREFIX, Kind
from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.dingtalk.errors import redact
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.store.connections import passes
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
        """The arguments that Celery shows of the message, to ``inspect`` for instance.

        The message of a client without our package holds the job itself, perhaps with a token in it.
        """
        shown: str = super().kwargsrepr
        return redact(shown, None)

    def info(self, safe: bool = False) -> dict[str, Any]:
        """The fields that ``inspect`` shows of the job; see `kwargsrepr`."""
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


log = get_logger("dingrelay.worker")

Answer = tuple[bool, Any, float]
"""Whether it failed, how if it did, and the seconds that it took."""


class JobPool(TaskPool):  # type: ignore[misc]  # celery ships no types
    """Runs jobs as coroutines, and any other Celery task in a thread.

    How many run at once is the broker's to keep: each slot is a message that was taken and not
    acknowledged.
    """

    def __init__(self, *args: Any, app: Any, **options: Any) -> None:
        super().__init__(*args, app=app, **options)
        self._tasks: Mapping[str, Any] = app.tasks
        self._soft_shutdown: float = app.conf.worker_soft_shutdown_timeout
        self._runtime: Runtime | None = None

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = (),
        kwargs: Any = None,
        callback: Any = None,
        accept_callback: Any = None,
        **options: Any,
    ) -> Any:
        """Start a task. The callbacks are those of Celery's request.

        Celery would reach a job by what it gets here, to end it; ours are ended by their records.
        """
        name, _, request, *_ = args
        task = self._tasks[name]
        if not isinstance(task, JobTask):
            return super().on_apply(target, args, kwargs, callback, accept_callback, **options)

        async def work(executor: Executor) -> None:
            accept_callback(os.getpid(), time.monotonic())
            callback(await _run_task(task, request, executor))

        self._runtime = task.runtime
        self._runtime.carry(work)
        return None

    def grow(self, n: int = 1) -> None:
        """Let more jobs run at once; the consumer takes so many more messages."""
        self.limit += n

    def shrink(self, n: int = 1) -> None:
        """Let fewer jobs run at once.

        Raises:
            ValueError: none would be left.
        """
        if n >= self.limit:
            raise ValueError(f"{self.limit} jobs run at once; at least 1 must be left")
        self.limit -= n

    def on_stop(self) -> None:
        """Let what runs come to its end: a worker that stops has shortened its time.

        What Redis does not answer is left: its lease runs out.
        """
        if self._runtime is not None:
            self._runtime.finish(self._soft_shutdown)
            self._runtime.events.flush()
        super().on_stop()


def _escaped(error: Exception, request: Mapping[str, Any]) -> ExceptionInfo:
    """Converts an error that no run should raise for Celery's request; Celery itself doesn't log it.

    Where Redis failed a worker that stops, the message goes back to the broker: the job may have
    no record yet.
    """
    job_id = ascii(request.get("id"))
    if passes(error):
        log.warning("given_back_to_broker", id=job_id, reason=type(error).__name__)
        error = Reject(type(error).__name__, requeue=True).with_traceback(error.__traceback__)
        return ExceptionInfo((Reject, error, error.__traceback__))
    log.error("run_failed", id=job_id, reason=type(error).__name__, exc_info=error)
    return ExceptionInfo()


async def _run_task(task: JobTask, request: Mapping[str, Any], executor: Executor) -> Answer:
    """Run a job if its message finds one to run; how that ended is in its record, and in its events."""
    began = time.monotonic()
    failed, result = False, None
    try:
        await task.run_job(request, executor)
    except CancelledError:
        """The lease went to another worker, or the loop ends: the record knows what is next."""
    except Exception as error:  # noqa: BLE001 - whatever it is, Celery must get its answer
        failed, result = True, _escaped(error, request)
    return failed, result, time.monotonic() - began
