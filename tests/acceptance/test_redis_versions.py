"""Jobs wait for a limit, share calls, fail, are cancelled and run on each Redis and Valkey that can be had."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from conftest import lasting
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import MessageSend
from dingrelay_workers.doctor.redis_server import check_redis
from support import servers
from support.jobs import message

PROGRAMS = ["valkey-server", "redis-server", *filter(None, os.environ.get("REDIS", "").split(","))]
"""Beside the Valkey that all other tests have: Debian's, and those whose paths REDIS names."""
MESSAGES, EQUAL, CANCELLED, APPROVALS = 40, 30, 10, 4


@pytest.fixture(params=PROGRAMS)
def valkey_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    port = servers.free_port()
    command = [servers.program(request.param), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(tmp_path), "--appendonly", "yes", "--save", ""]
    with Redis(port=port) as redis:
        ready = partial(servers.redis_answers, redis)
        with servers.running(command, tmp_path / "server.log", ready):
            yield f"redis://127.0.0.1:{port}/0"
            assert lasting(redis) == []


def equal(number: int) -> MessageSend:
    """One of many messages of the same text, each to another person."""
    return message(f"u{100 + number}", text="大家好")


@pytest.mark.timeout(120)
def test_every_way_of_a_job(
    fleet: Fleet, client: Client, sandbox: SandboxAdmin, tmp_path: Path
) -> None:
    fleet.env |= traffic.write_rules(tmp_path, message_send="20/1s")
    fleet.env["DINGRELAY_MAX_WAIT"] = "0.2"
    sandbox.add_fault("http", api=traffic.SEND, count=3, status=503)
    sandbox.add_fault("throttle", api=traffic.SEND, count=2)
    forms = [traffic.approval(number) for number in range(APPROVALS)]
    # More than the limit lets through before they are cancelled.
    numbers = range(MESSAGES + CANCELLED)
    ids = traffic.send_all(client, [*forms, *map(traffic.message, numbers)])
    ids += traffic.send_all(client, map(equal, range(EQUAL)))
    unwanted = ids[APPROVALS + MESSAGES :][:CANCELLED]
    for job in unwanted:
        client.cancel(job)
    (worker,) = fleet.spawn()
    ended = wait_for_ends(client, ids, timeout=60)
    assert [each.state for each in ended if each.id in unwanted] == [State.CANCELLED] * CANCELLED
    traffic.assert_done([each for each in ended if each.id not in unwanted])
    traffic.assert_each_exists_once(sandbox, forms, ended[:APPROVALS])
    assert sandbox.audit()["delivered"] == MESSAGES + EQUAL
    assert all(found.verdict != "failed" for found in check_redis(client.settings))
    assert worker.stop() == 0
    assert "Traceback" not in worker.log.read_text()
