"""The pool answers Celery's request for each way in which a job can end."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import Future, wait
from types import SimpleNamespace
from typing import Any, cast

import pytest
from celery.exceptions import Reject
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_workers.celery_worker.event_loop import Runtime
from dingrelay_workers.celery_worker.pool import JobPool, JobTask
from dingrelay_workers.celery_worker.task_events import TaskEvents
from dingrelay_workers.resources import Resources

CONF = SimpleNamespace(worker_soft_shutdown_timeout=5)


class Loop:
    """A runtime without resources."""

    def __init__(self) -> None:
        self.events = TaskEvents()
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
    """Ends when it is asked to."""

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
    results: list[Any] = []
    accepted: list[Any] = []
    pool.on_apply(
        print,
        ("answers", "id", {}, b"", "json", "utf-8"),
        callback=results.append,
        accept_callback=lambda *when: accepted.append(when),
    )
    pool.on_stop()
    assert len(accepted) == 1
    ((failed, result, seconds),) = results
    assert seconds >= 0
    return failed, result


def test_a_message_is_answered_alike_however_its_job_ended(loop: Loop) -> None:
    assert ended(loop, returns(None)) == (False, None)


def test_a_run_that_was_ended_is_left(loop: Loop) -> None:
    assert ended(loop, raises(asyncio.CancelledError())) == (False, None)


def test_an_unexpected_error_is_shown(loop: Loop) -> None:
    failed, result = ended(loop, raises(KeyError("kind")))
    assert failed
    assert "KeyError" in result.traceback


def test_a_job_that_redis_failed_is_given_back_to_the_broker(loop: Loop) -> None:
    failed, result = ended(loop, raises(RedisConnectionError()))
    error = result.exception.exc  # as Celery's request looks at it
    assert (failed, type(error), error.requeue) == (True, Reject, True)


def test_another_celery_task_runs_in_a_thread(loop: Loop) -> None:
    pool = JobPool(2, app=SimpleNamespace(tasks={"other": object()}, conf=CONF))
    results: list[Any] = []
    target = threading.get_ident
    applied = pool.on_apply(
        lambda *_: target(), ("other", "id", {}), {}, results.append, lambda *_: None
    )
    applied.wait(5)
    assert results
    assert results[0] not in {threading.get_ident(), loop.thread.ident}
    pool.on_stop()
