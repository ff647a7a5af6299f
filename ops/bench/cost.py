"""Cost of a job: CPU time in the worker beside other task queues, and load on Redis."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from statistics import median
from typing import Any

import psutil
from figures import Figure
from messages import distinct, user
from redis import Redis
from testbed import HERE, Testbed, cpu_seconds, wait_until

from dingrelay_producers import Client
from dingrelay_producers.store import keys

GROUP = "worker CPU of a job"
LIMITS = {"calls": "100000/1s", "egress": "", "recipients": "1000000/60s"}
"""Limits of the sandbox, and in force in our workers: never reached, and the cost of each rule is in the figures."""
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

MEGABYTE = 1024**2
WORKER_CONCURRENCY = 64
APP_CALLS = 20
"""Calls a second of one app and API: DingTalk's limit (API §6)."""
ENQUEUE_ROUNDS = 3
"""Rates are taken in turns so often, and their medians reported: machines have slow seconds."""

Enqueue = Callable[[int, int], object]
"""Enqueues so many jobs (second) from a number on (first)."""
Workers = AbstractContextManager[list[psutil.Process]]


def worker(
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
    post = _celery(testbed, jobs, "post", "threads")
    figures += [
        Figure(GROUP, "Celery no-op, prefork", prefork * 1000, "ms"),
        Figure(GROUP, "dingrelay ÷ Celery no-op, prefork", ours / prefork, "×"),
        Figure(GROUP, "Celery, one POST", post * 1000, "ms"),
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
    testbed: Testbed,
    jobs: int,
    workers: Workers,
    enqueue: Enqueue,
    finished: Callable[[int], bool] | None = None,
    loaded: float = LOADED,
) -> float:
    """CPU seconds a job; `finished` says whether so many jobs are done: by default, whether their messages are there."""
    warm_up, finished = min(jobs, WARM_UP), finished or (lambda many: testbed.delivered() >= many)
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
    rules = testbed.clear(latency=(0, 0), **LIMITS)
    workers = testbed.workers(1, concurrency=CONCURRENCY, env=rules)
    with testbed.client() as client:

        def enqueue(first: int, count: int) -> None:
            client.send_many(distinct(count, first=first))

        return _per_job(testbed, jobs, workers, enqueue, loaded=loaded)


def _noop(testbed: Testbed, jobs: int, pool: str, loaded: float = LOADED) -> float:
    def empty(_: int) -> bool:
        """Whether nothing waits in Celery's queue, taken or not."""
        with testbed.celery().connection_for_read() as connection:
            redis = connection.default_channel.client
            return not redis.llen("celery") and not redis.hlen("unacked")

    return _celery(testbed, jobs, "noop", pool, empty, loaded)


def _celery(testbed: Testbed, jobs: int, task: str, pool: str, *more: Any) -> float:
    testbed.clear(latency=(0, 0), **LIMITS)
    celery = testbed.celery()

    def enqueue(first: int, count: int) -> None:
        for number in range(first, first + count):
            celery.send_task(f"peers.celery.{task}", args=[user(number), f"text {number}"])

    workers = testbed.celery_workers(1, concurrency=CONCURRENCY, pool=pool)
    return _per_job(testbed, jobs, workers, enqueue, *more)


def _queue(testbed: Testbed, jobs: int, python: str, module: str, worker: tuple[str, ...]) -> float:
    testbed.clear(latency=(0, 0), **LIMITS)

    def enqueue(first: int, count: int) -> None:
        subprocess.run([python, "-m", module, str(first), str(count)], env=testbed.env, check=True)

    return _per_job(testbed, jobs, testbed.processes([[python, *worker]]), enqueue)


def redis_and_history(
    testbed: Testbed, jobs: int = 5_000, *, loaded: float = LOADED
) -> list[Figure]:
    """Cost of a message in Redis and the workers, from the client's `send` to its end.

    Each has a text of its own, so each is a call. They are sent one by one, since `send_many` would
    share round trips.

    Args:
        testbed: where to measure.
        jobs: how many.
        loaded: seconds between the warm-up and the measured jobs.
    """
    group = "a message in Redis and in a worker"
    env = testbed.clear(**LIMITS) | {"DINGRELAY_HISTORY": '{"days": 90}'}
    with (
        testbed.workers(2, concurrency=WORKER_CONCURRENCY, env=env) as workers,
        testbed.client() as client,
        Redis.from_url(testbed.redis_url) as redis,
    ):
        _send(client, 0, WARM_UP)
        wait_until(lambda: testbed.delivered() >= WARM_UP, 120)
        time.sleep(loaded)
        wait_until(lambda: _history(testbed)[0] >= WARM_UP, 60)
        known, empty = _history(testbed)
        redis_before, workers_before = _used(redis), cpu_seconds(workers)
        commands_before = redis.info("stats")["total_commands_processed"]
        _send(client, WARM_UP, jobs)
        wait_until(lambda: testbed.delivered() >= WARM_UP + jobs, 240)
        wait_until(lambda: not redis.zcard(keys.RUNNING), 60)
        seconds = (_used(redis) - redis_before) / jobs
        commands = (redis.info("stats")["total_commands_processed"] - commands_before) / jobs
        worker = (cpu_seconds(workers) - workers_before) / jobs
        wait_until(lambda: _history(testbed)[0] >= WARM_UP + jobs, 60)
        rows, size = _history(testbed)
    return [
        Figure(group, "commands, those within scripts too", commands, "", at_most=45),
        Figure(group, "CPU of Redis", seconds * 1_000_000, "µs"),
        Figure(group, "apps at 20 calls/s that fill one core", 1 / seconds / APP_CALLS, ""),
        Figure(group, "messages a second and worker core", 1 / worker, "/s"),
        Figure(group, "history in SQLite", (size - empty) / (rows - known), "bytes"),
    ]


def enqueue(testbed: Testbed, jobs: int = 2_000, *, waiting: int = 100_000) -> list[Figure]:
    """Jobs a second that one thread enqueues, beside a bare Celery client's `delay`; what waits.

    Args:
        testbed: where to measure.
        jobs: how many of each in each of the rounds.
        waiting: how many wait in Redis while no worker runs.
    """
    return _enqueue(testbed, jobs) + _waiting(testbed, waiting)


def _enqueue(testbed: Testbed, jobs: int) -> list[Figure]:
    group = "jobs enqueued a second, one thread"
    testbed.clear(latency=(0, 0), **LIMITS)
    celery = testbed.celery()
    noop = celery.task(name="peers.celery.noop", ignore_result=True)(_nothing)

    def delays() -> None:
        for number in range(jobs):
            noop.delay(user(number), f"text {number}")

    many = 5 * jobs
    seconds: dict[str, list[float]] = {}
    with testbed.client() as client, Redis.from_url(testbed.redis_url) as redis:
        ways: dict[str, tuple[int, Callable[[], Any]]] = {
            "Celery": (jobs, delays),
            "send": (jobs, lambda: _send(client, 0, jobs)),
            "send_many": (many, lambda: client.send_many(distinct(many))),
        }
        # The first round opens connections.
        for _ in range(1 + ENQUEUE_ROUNDS):
            for name, (_, way) in ways.items():
                redis.flushall()
                began = time.perf_counter()
                way()
                seconds.setdefault(name, []).append(time.perf_counter() - began)
    rate = {name: count / median(seconds[name][1:]) for name, (count, _) in ways.items()}
    return [
        Figure(group, "send ÷ Celery's delay", rate["send"] / rate["Celery"], "×", at_least=1),
        Figure(group, "send", rate["send"], "/s"),
        Figure(group, "Celery's delay", rate["Celery"], "/s"),
        Figure(
            group, "send_many ÷ Celery's delay", rate["send_many"] / rate["Celery"], "×", at_least=4
        ),
        Figure(group, "send_many", rate["send_many"], "/s"),
    ]


def _waiting(testbed: Testbed, jobs: int) -> list[Figure]:
    group = f"{jobs:,} jobs that wait"
    testbed.clear(latency=(0, 0), **LIMITS)
    with testbed.client() as client, Redis.from_url(testbed.redis_url) as redis:
        before = redis.info("memory")["used_memory"]
        client.send_many(distinct(jobs))
        held = redis.info("memory")["used_memory"] - before
    at_most = 130 * jobs / 100_000
    return [
        Figure(group, "memory of Redis", held / MEGABYTE, "MB", at_most=at_most),
        Figure(group, "a job", held / jobs, "bytes"),
    ]


def _nothing(user: str, text: str) -> None:
    """The task that a bare Celery client enqueues."""


def _send(client: Client, first: int, jobs: int) -> None:
    for message in distinct(jobs, first=first):
        client.send(message)


def _used(redis: Redis) -> float:
    """CPU seconds of the server so far, of all its threads."""
    cpu = redis.info("cpu")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


def _history(testbed: Testbed) -> tuple[int, int]:
    """How many jobs the history has, and the bytes of the whole database."""
    size = "select page_count * page_size from pragma_page_count(), pragma_page_size()"
    with closing(sqlite3.connect(testbed.database)) as database, suppress(sqlite3.OperationalError):
        return database.execute(f"select count(*), ({size}) from job_history").fetchone()
    return 0, 0
