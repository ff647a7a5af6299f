"""The event loop of a worker process, in a thread of its own beside Celery's."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any, TypeVar

import uvloop
from structlog.stdlib import get_logger

from dingrelay_workers.celery_worker.task_events import TaskEvents
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.resources import Resources

T = TypeVar("T")

START_TIMEOUT = 30.0

log = get_logger("dingrelay.runtime")


class Runtime:
    """Runs coroutines on one loop, with one `Resources` and the executor of its jobs.

    The loop runs from `begin` on, and has the executor from `start` on, which the first job does otherwise.

    Attributes:
        events: notified of each run.
        loop: the loop, after `begin`.
    """

    loop: asyncio.AbstractEventLoop

    def __init__(self, open_engine: Callable[[], Resources]) -> None:
        self.events = TaskEvents()
        self._open_engine = open_engine
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._begun: Future[None] = Future()
        self._opening = asyncio.Event()
        self._ready: Future[Executor] = Future()
        self._executor: Executor | None = None  # once it is ready
        self._stopping = asyncio.Event()
        self._jobs: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """Start the loop unless it runs."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._main, name="dingrelay-loop", daemon=True
                )
                self._thread.start()
        self._begun.result(START_TIMEOUT)

    def start(self) -> Executor:
        """Open the resources unless they are; the executor.

        Raises:
            Exception: whatever the resources raised while they were opened.
        """
        self.begin()
        self.loop.call_soon_threadsafe(self._opening.set)
        return self._ready.result(START_TIMEOUT)

    def submit(self, work: Callable[[Executor], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run a coroutine on the loop, with the executor; from any thread."""
        executor = self._executor or self.start()
        return asyncio.run_coroutine_threadsafe(work(executor), self.loop)

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of a coroutine on the loop, which needs no executor; from any other thread."""
        self.begin()
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result()

    def carry(self, work: Callable[[Executor], Coroutine[Any, Any, None]]) -> None:
        """Run a job on the loop; from any thread. It returns no result, unlike `submit`.

        A result would cost a job two futures, their locks, and a callback to each other.
        """
        executor = self._executor or self.start()
        self.loop.call_soon_threadsafe(self._start_job, work(executor))

    def finish(self, timeout: float) -> None:
        """Wait for the jobs, so many seconds at most; from any thread but the loop's."""

        async def ended(_: Executor) -> None:
            if self._jobs:
                await asyncio.wait(self._jobs)

        if self._executor is not None:
            wait([self.submit(ended)], timeout=timeout)

    @property
    def resources(self) -> Resources | None:
        """The resources of the loop; None before they are open."""
        return None if self._executor is None else self._executor.resources

    @property
    def running(self) -> int:
        """How many jobs run; from any thread."""
        return 0 if self._executor is None else self._executor.resources.leases.count

    def drain(self) -> None:
        """The worker stops: waiting jobs are given back. From any thread."""
        if self._executor is not None:
            self.loop.call_soon_threadsafe(self._executor.resources.drain)

    def stop(self, timeout: float) -> None:
        """Close the resources and end the loop, within `timeout` seconds."""
        if self._thread is not None:
            with suppress(RuntimeError):  # it has ended
                for event in (self._stopping, self._opening):
                    self.loop.call_soon_threadsafe(event.set)
            self._thread.join(timeout)

    def _start_job(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._forget_job)

    def _forget_job(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("request_not_answered", reason=type(error).__name__)

    def _main(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(self._live())
            except Exception as error:
                if not self._ready.done():
                    self._ready.set_exception(error)
                else:
                    log.exception("loop_ended")

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._begun.set_result(None)
        await self._opening.wait()
        if self._stopping.is_set():
            return
        async with self._open_engine() as resources, Executor(resources, self.events) as executor:
            self._executor = executor
            self._ready.set_result(executor)
            await self._stopping.wait()
