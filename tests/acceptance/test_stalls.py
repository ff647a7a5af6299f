"""A worker stands still while it is in the midst of everything, and goes on when all is over."""

import signal

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin

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
