"""The pool answers Celery's request for each way in which a job can end."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import Retry

from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.celery_worker.pool import JobPool
from dingrelay_workers.celery_worker.task import LEFT, JobFailed, JobTask, JobWaits
from dingrelay_workers.resources import Resources

CONF = SimpleNamespace(worker_soft_shutdown_timeout=5)


class Loop:
    """A runtime without resources."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.jobs: list[Future[None]] = []
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def carry(self, work: Any) -> None:
        self.jobs.append(asyncio.run_coroutine_threadsafe(work(None), self.loop))

    def finish(self, timeout: float) -> None:
        wait(self.jobs, timeout)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.stop()


class Answers(JobTask):
    """Ends as it is told."""

    name = "answers"

    def __init__(self, loop: Loop, how: Coroutine[Any, Any, Any]) -> None:
        self.runtime = cast("Runtime", loop)
        self.how = how

    async def run_job(self, request: Mapping[str, Any], resources: Resources) -> Any:
        return await self.how


async def returns(value: object) -> object:
    return value


async def raises(error: BaseException) -> object:
    raise error


def ended(loop: Loop, how: Coroutine[Any, Any, Any]) -> tuple[bool, Any]:
    app = SimpleNamespace(tasks={"answers": Answers(loop, how)}, conf=CONF)
    pool = JobPool(2, app=app)
    told: list[Any] = []
    accepted: list[Any] = []
    pool.on_apply(
        print,
        ("answers", "id", {}, b"", "json", "utf-8"),
        callback=told.append,
        accept_callback=lambda *when: accepted.append(when),
    )
    pool.on_stop()
    assert len(accepted) == 1
    ((failed, result, seconds),) = told
    assert seconds >= 0
    return failed, result


def test_a_job_that_is_done(loop: Loop) -> None:
    assert ended(loop, returns("done")) == (False, "done")


def test_a_job_that_waits_tells_why(loop: Loop) -> None:
    failed, result = ended(loop, returns(JobWaits(message="snoozed: the limit", when=1.0)))
    assert failed
    assert isinstance(result.exception, Retry)
    assert "snoozed: the limit" in repr(result.exception.exc), "what Flower shows"


def test_a_job_that_failed_tells_why(loop: Loop) -> None:
    failed, result = ended(loop, returns(JobFailed("dead: quota")))
    assert failed
    assert repr(result.exception) == "dead: quota", "what Flower shows"


def test_a_job_that_another_worker_has_is_left(loop: Loop) -> None:
    assert ended(loop, raises(asyncio.CancelledError())) == (False, LEFT)


def test_what_was_never_meant_to_happen_is_shown(loop: Loop) -> None:
    failed, result = ended(loop, raises(KeyError("kind")))
    assert failed
    assert "KeyError" in result.traceback


def test_another_celery_task_runs_in_a_thread(loop: Loop) -> None:
    pool = JobPool(2, app=SimpleNamespace(tasks={"other": object()}, conf=CONF))
    told: list[Any] = []
    target = threading.get_ident
    applied = pool.on_apply(
        lambda *_: target(), ("other", "id", {}), {}, told.append, lambda *_: None
    )
    assert applied is not None
    applied.wait(5)
    assert told
    assert told[0] not in {threading.get_ident(), loop.thread.ident}
    pool.on_stop()
