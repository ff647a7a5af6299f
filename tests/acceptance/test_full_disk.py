"""A log that can't be written: jobs and requests go on without its lines."""

import json
from http.client import HTTPConnection
from pathlib import Path

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from acceptance.gateway_process import GatewayProcess, made_key
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin

FULL = Path("/dev/full")
"""Each write to it fails, as on a full disk. What reads it never comes to an end."""


def test_a_worker_and_a_gateway_go_on_though_their_logs_cannot_be_written(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, tmp_path: Path
) -> None:
    (worker,) = fleet.spawn(wait=False, stderr=FULL)
    gateway = GatewayProcess(fleet, tmp_path, stderr=FULL)
    try:
        key = made_key(fleet, "crm")
        ids = traffic.send_all(client, map(traffic.message, range(20)))
        wait_until(gateway.ready, timeout=60, what="the gateway listens")
        for number in range(20, 25):
            ids.append(posted(gateway, key, traffic.message(number).wire()))
        statuses = wait_for_ends(client, ids, timeout=60)
        assert {status.state for status in statuses} == {State.DONE}
        traffic.assert_each_arrived_once(sandbox, range(25))
        assert worker.alive
        assert worker.stop() == 0
    finally:
        assert gateway.stop() == 0


def posted(gateway: GatewayProcess, key: str, message: object) -> str:
    """The id of a message that the gateway has taken."""
    connection = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/messages", json.dumps(message), headers)
    answer = connection.getresponse()
    body = json.loads(answer.read())
    connection.close()
    assert answer.status == 202, body
    job: str = body["id"]
    return job
