"""kill -9 at each boundary of a job: a message arrives once, an approval exists once."""

import signal

import pytest

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin

QUICK = {"DINGRELAY_LEASE": "2", "DINGRELAY_SETTLE_DELAY": "2"}


@pytest.fixture
def sandbox_env(sandbox_env: dict[str, str]) -> dict[str, str]:
    return sandbox_env | QUICK


@pytest.mark.parametrize(
    "boundary",
    [
        "before the claim",
        "after the claim",
        "before the call",
        "after the call",
        "before the record",
    ],
)
def test_a_job_whose_worker_dies_is_done_once(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, boundary: str
) -> None:
    message, approval = traffic.message(1), traffic.approval(1)
    doomed = fleet.spawn(
        app="acceptance.boundary_worker", concurrency=2, BOUNDARY=boundary, BOUNDARY_JOBS="2"
    )[0]
    ids = [client.send(message).id, client.send(approval).id]
    assert doomed.process.wait(30) == -signal.SIGKILL
    fleet.spawn()
    ended = wait_for_ends(client, ids, timeout=60)
    traffic.assert_done(ended)
    traffic.assert_each_arrived_once(sandbox, [1])
    traffic.assert_each_exists_once(sandbox, [approval], ended[1:])
