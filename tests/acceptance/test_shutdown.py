"""SIGTERM to a busy worker: it exits in time, loses no job, and runs none twice."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin

MESSAGES = 110
APPROVALS = 10
SOFT_SHUTDOWN = 25
"""Seconds that a stopping worker has."""
TAKEN_OVER = 10
"""Seconds within which what it gave back is claimed; a lease or a grace would be 30."""


def test_a_busy_worker_stops_in_time_and_another_goes_on(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin, tmp_path: Path
) -> None:
    for api in (traffic.SEND, traffic.CREATE):
        sandbox.add_fault("latency", api=api, min_ms=1_000, max_ms=3_000)
    fleet.env |= traffic.write_rules(tmp_path, message_send="15/1s", approval_create="2/1s")
    forms = [traffic.approval(number) for number in range(APPROVALS)]
    messages = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    approvals = traffic.send_all(client, forms)
    ids = [*messages, *approvals]
    stopping = fleet.spawn(concurrency=32)[0]
    traffic.wait_for_done(valkey, ids, 10)
    held = traffic.running(valkey, ids)
    assert len(held) > 10

    began = time.monotonic()
    assert stopping.stop() == 0
    assert time.monotonic() - began < SOFT_SHUTDOWN
    # It ran alone, so whatever it held is given back or settled by now.
    assert traffic.running(valkey, ids) == {}
    given_back = [job_id for job_id in held if not client.status(job_id).state.ended]
    assert given_back

    fleet.spawn(concurrency=32)
    wait_until(
        lambda: all(
            fence != held[job_id]
            for job_id, (_, fence) in traffic.states(valkey, given_back).items()
        ),
        timeout=TAKEN_OVER,
        what="what was given back is claimed",
    )
    ended = wait_for_ends(client, ids, timeout=60)
    traffic.assert_done(ended)
    assert {status.attempts for status in ended} == {1}
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
    traffic.assert_each_exists_once(sandbox, forms, ended[MESSAGES:])
    calls = sandbox.audit()["calls"]
    # Answers take 1 to 3 s, so calls may meet at DingTalk though they left apart.
    assert calls[traffic.SEND]["ok"] == MESSAGES
    assert calls[traffic.CREATE]["ok"] == APPROVALS


def test_a_hanging_call_is_abandoned(fleet: Fleet, client: Client, sandbox: SandboxAdmin) -> None:
    fault = sandbox.add_fault("hang", api=traffic.SEND)
    soft_shutdown = 10
    stopping = fleet.spawn(
        DINGRELAY_CALL_TIMEOUT="100", DINGRELAY_SOFT_SHUTDOWN=str(soft_shutdown)
    )[0]
    ids = traffic.send_all(client, map(traffic.message, range(5)))
    wait_until(lambda: sandbox.audit()["faults"].get("hang") == len(ids), what="all calls hang")
    began = time.monotonic()
    assert stopping.stop() == 0
    # Its calls would take 100 s; what comes on top of the soft timeout is the machine's.
    assert time.monotonic() - began < 2 * soft_shutdown
    sandbox.delete_fault(fault)
    fleet.spawn()
    traffic.assert_done(wait_for_ends(client, ids, timeout=20))
    traffic.assert_each_arrived_once(sandbox, range(len(ids)))


SIGNALS = [
    [signal.SIGTERM],
    [signal.SIGTERM, signal.SIGTERM],
    [signal.SIGINT],
    [signal.SIGQUIT],
]


@pytest.fixture
def silence(valkey: Redis) -> Iterator[Callable[[], None]]:
    """Lets Valkey keep its connections and answer nothing, until the test ends."""
    process = valkey.info("server")["process_id"]
    yield lambda: os.kill(process, signal.SIGSTOP)
    os.kill(process, signal.SIGCONT)


def test_a_silent_redis_does_not_keep_a_worker(
    fleet: Fleet,
    client: Client,
    sandbox: SandboxAdmin,
    valkey: Redis,
    silence: Callable[[], None],
) -> None:
    sandbox.add_fault("latency", api=traffic.SEND, min_ms=500, max_ms=500)
    workers = fleet.spawn(len(SIGNALS), concurrency=4, DINGRELAY_SOFT_SHUTDOWN="2")
    ids = traffic.send_all(client, map(traffic.message, range(40)))
    traffic.wait_for_done(valkey, ids, 4)
    silence()
    for worker, numbers in zip(workers, SIGNALS, strict=True):
        for number in numbers:
            worker.process.send_signal(number)
    # On a machine that is not busy it takes 6 s; without a watchdog it was minutes.
    for worker in workers:
        worker.process.wait(30)
