"""What one Redis carries: what a job costs it, what waits in it, how fast jobs come."""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from statistics import median
from typing import Any

from cost import LIMITS, LOADED, RULES, WARM_UP
from figures import Figure
from messages import distinct, user
from redis import Redis
from testbed import Testbed, cpu_seconds, wait_until

from dingrelay_producers import Client
from dingrelay_producers.store import keys

MEGABYTE = 1024**2
CONCURRENCY = 64
APP_CALLS = 20
"""Calls a second of one app and API: DingTalk's limit (API §6)."""
ROUNDS = 3
"""Rates are taken in turns so often, and their medians reported: machines have slow seconds."""


def cost(testbed: Testbed, jobs: int = 5_000, *, loaded: float = LOADED) -> list[Figure]:
    """What a message costs Redis and the workers, from the client's `send` to its end.

    Each has a text of its own, so each is a call. They are sent one by one, since `send_many` would
    share round trips.

    Args:
        testbed: where to measure.
        jobs: how many.
        loaded: seconds between the warm-up and the measured jobs.
    """
    group = "a message in Redis and in a worker"
    testbed.clear(latency=(5, 30), **LIMITS)
    env = {**testbed.rules(**RULES), "DINGRELAY_HISTORY": '{"days": 90}'}
    with (
        testbed.workers(2, concurrency=CONCURRENCY, env=env) as workers,
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
    noop = celery.task(name="peers.noop.noop", ignore_result=True)(_noop)

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
        for _ in range(1 + ROUNDS):
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


def _noop(user: str, text: str) -> None:
    """What a bare Celery client enqueues."""


def _send(client: Client, first: int, jobs: int) -> None:
    for message in distinct(jobs, first=first):
        client.send(message)


def _used(redis: Redis) -> float:
    """CPU seconds of the server so far, of all its threads."""
    cpu = redis.info("cpu")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"]


def _history(testbed: Testbed) -> tuple[int, int]:
    """How many jobs the history has, and the bytes of the whole database."""
    with closing(sqlite3.connect(testbed.database)) as database:
        if not database.execute(
            "select 1 from sqlite_master where name = 'job_history'"
        ).fetchone():
            return 0, 0
        (rows,) = database.execute("select count(*) from job_history").fetchone()
        (pages,) = database.execute("pragma page_count").fetchone()
        (size,) = database.execute("pragma page_size").fetchone()
    return rows, pages * size
