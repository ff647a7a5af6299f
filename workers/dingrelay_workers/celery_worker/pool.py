"""The Celery pool whose slots are coroutines: jobs run on the process's event loop.

A job waits most of its time, for a limit or for DingTalk. In a thread each of its waits would cost
a change of threads, and a thread its memory.
"""

import os
import time
from asyncio import CancelledError
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from billiard.einfo import ExceptionInfo
from celery.concurrency.thread import TaskPool
from celery.exceptions import Reject
from structlog.stdlib import get_logger

from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.celery_worker.task import JobTask
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.store.patience import passes

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


@dataclass(frozen=True, slots=True)
class Ended:
    """Why a message is given back, as Celery's request reads it."""

    exception: Exception
    traceback: str = ""


def _escaped(error: Exception, request: Mapping[str, Any]) -> Ended | ExceptionInfo:
    """What no run should raise, as Celery's request reads it; Celery itself doesn't log it.

    Where Redis failed a worker that stops, the message goes back to the broker: the job may have
    no record yet.
    """
    job_id = ascii(request.get("id"))
    if passes(error):
        log.warning("given_back_to_broker", id=job_id, reason=type(error).__name__)
        return Ended(Reject(type(error).__name__, requeue=True))
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
