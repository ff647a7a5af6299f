"""CPU time of one job in the worker: ours, beside bare Celery and other task queues."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from statistics import median

import psutil
from figures import Figure
from messages import distinct, user
from testbed import HERE, Testbed, cpu_seconds, wait_until

GROUP = "worker CPU of a job"
LIMITS = {"calls": "100000/1s", "egress": "", "recipients": "1000000/60s"}
"""Of the sandbox: nothing is refused."""
RULES = {"calls": "50000/1s", "recipients": "500000/60s"}
"""In force, and never met: what every rule costs a job is in the figures."""
CONCURRENCY = 32
WARM_UP = 300
"""Jobs before the measured ones: imports, connections and the first token are no job's cost."""
LOADED = 4.0
"""Seconds after which a worker has loaded all that it needs once: one of ours looks for campaigns
3 s after its start, and loads the database for that, which takes as long as a hundred jobs."""
ROUNDS = 5
"""Ours and the no-op are measured in turns so often, and medians reported: one figure is 20 % off either way."""
SETTLE = 0.5
"""Seconds for what follows a job's last visible sign."""
ARQ_PYTHON = HERE.parents[1] / ".venv" / "arq" / "bin" / "python"
"""arq supports redis-py below 6 only; it lives in an environment of its own."""

Enqueue = Callable[[int, int], object]
"""Enqueues so many jobs (second) from a number on (first)."""
Workers = AbstractContextManager[list[psutil.Process]]


def measure(
    testbed: Testbed,
    jobs: int = 3_000,
    *,
    rounds: int = ROUNDS,
    loaded: float = LOADED,
    peers: bool = True,
) -> list[Figure]:
    """Milliseconds a job, and ours in bare Celery's.

    Args:
        testbed: where to measure.
        jobs: how many of each.
        rounds: how often ours and the no-op are measured.
        loaded: seconds between the warm-up and the measured jobs, of these two.
        peers: whether others than Celery's no-op in threads are measured.

    Raises:
        FileNotFoundError: arq's environment is not there; `make bench` creates it.
    """
    if peers and not ARQ_PYTHON.exists():
        raise FileNotFoundError(f"{ARQ_PYTHON}: `make bench` creates it")
    turns = [
        (_ours(testbed, jobs, loaded), _noop(testbed, jobs, "threads", loaded))
        for _ in range(rounds)
    ]
    ours, noop = (median(times) for times in zip(*turns, strict=True))
    figures = [
        Figure(GROUP, "dingrelay ÷ Celery no-op", ours / noop, "×", at_most=1.6),
        Figure(GROUP, "dingrelay message-send", ours * 1000, "ms"),
        Figure(GROUP, "Celery no-op, threads", noop * 1000, "ms"),
    ]
    if not peers:
        return figures
    prefork = _noop(testbed, jobs, "prefork")
    figures += [
        Figure(GROUP, "Celery no-op, prefork", prefork * 1000, "ms"),
        Figure(GROUP, "dingrelay ÷ Celery no-op, prefork", ours / prefork, "×"),
        Figure(GROUP, "Celery, one POST", _celery_post(testbed, jobs) * 1000, "ms"),
    ]
    return figures + [
        Figure(GROUP, f"{name}, one POST", _queue(testbed, jobs, *command) * 1000, "ms")
        for name, command in QUEUES.items()
    ]


QUEUES = {
    "arq": (str(ARQ_PYTHON), "peers.arq", ("-m", "arq", "peers.arq.WorkerSettings")),
    "dramatiq": (
        sys.executable,
        "peers.dramatiq",
        ("-m", "dramatiq", "peers.dramatiq", "--processes", "1", "--threads", str(CONCURRENCY)),
    ),
    "taskiq": (
        sys.executable,
        "peers.taskiq",
        (
            *("-m", "taskiq", "worker", "peers.taskiq:broker"),
            *("--workers", "1", "--max-async-tasks", str(CONCURRENCY)),
        ),
    ),
}
"""Name → Python, the module that enqueues, and the arguments that start a worker."""


def _per_job(
    jobs: int,
    workers: Workers,
    enqueue: Enqueue,
    finished: Callable[[int], bool],
    loaded: float = LOADED,
) -> float:
    """CPU seconds a job; `finished` says whether so many jobs are done."""
    warm_up = min(jobs, WARM_UP)
    with workers as processes:
        enqueue(0, warm_up)
        wait_until(lambda: finished(warm_up), 120)
        time.sleep(loaded)
        before = cpu_seconds(processes)
        enqueue(warm_up, jobs)
        wait_until(lambda: finished(warm_up + jobs), 240)
        time.sleep(SETTLE)
        return (cpu_seconds(processes) - before) / jobs


def _ours(testbed: Testbed, jobs: int, loaded: float) -> float:
    _clear(testbed)
    rules = testbed.rules(**RULES)
    with testbed.client() as client:
        return _per_job(
            jobs,
            testbed.workers(1, concurrency=CONCURRENCY, env=rules),
            lambda first, count: client.send_many(distinct(count, first=first)),
            partial(_delivered, testbed),
            loaded,
        )


def _noop(testbed: Testbed, jobs: int, pool: str, loaded: float = LOADED) -> float:
    _clear(testbed)
    workers = testbed.celery_workers(1, "peers.noop", concurrency=CONCURRENCY, pool=pool)
    return _per_job(
        jobs,
        workers,
        _celery_enqueue(testbed, "peers.noop.noop"),
        lambda _: _queue_empty(testbed),
        loaded,
    )


def _celery_post(testbed: Testbed, jobs: int) -> float:
    _clear(testbed)
    workers = testbed.celery_workers(1, "peers.post", concurrency=CONCURRENCY)
    enqueue = _celery_enqueue(testbed, "peers.post.send_text")
    return _per_job(jobs, workers, enqueue, partial(_delivered, testbed))


def _queue(testbed: Testbed, jobs: int, python: str, module: str, worker: tuple[str, ...]) -> float:
    _clear(testbed)

    def enqueue(first: int, count: int) -> None:
        subprocess.run([python, "-m", module, str(first), str(count)], env=testbed.env, check=True)

    return _per_job(
        jobs, testbed.processes([[python, *worker]]), enqueue, partial(_delivered, testbed)
    )


def _clear(testbed: Testbed) -> None:
    testbed.clear(latency=(0, 0), **LIMITS)


def _celery_enqueue(testbed: Testbed, task: str) -> Enqueue:
    celery = testbed.celery()

    def enqueue(first: int, count: int) -> None:
        for number in range(first, first + count):
            celery.send_task(task, args=[user(number), f"text {number}"])

    return enqueue


def _delivered(testbed: Testbed, jobs: int) -> bool:
    return testbed.delivered() >= jobs


def _queue_empty(testbed: Testbed) -> bool:
    """Whether nothing waits in Celery's queue, taken or not."""
    with testbed.celery().connection_for_read() as connection:
        redis = connection.default_channel.client
        return not redis.llen("celery") and not redis.hlen("unacked")
