"""Celery messages that vanish cost their jobs some time and nothing else."""

import pytest
from redis import Redis

from acceptance import traffic
from acceptance.fleet import Fleet, wait_for_ends
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin

QUEUE = "dingrelay.normal"
MESSAGES = 120


@pytest.fixture
def sandbox_env(sandbox_env: dict[str, str]) -> dict[str, str]:
    return sandbox_env | {"DINGRELAY_LEASE": "3"}


def test_jobs_whose_queue_was_emptied_are_done(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    assert valkey.llen(QUEUE) == MESSAGES
    valkey.delete(QUEUE)
    fleet.spawn()
    traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))


def test_jobs_whose_wakeups_were_lost_among_others_are_done(
    fleet: Fleet, client: Client, valkey: Redis, sandbox: SandboxAdmin
) -> None:
    ids = traffic.send_all(client, map(traffic.message, range(MESSAGES)))
    # New messages come in on the left, so the oldest half goes.
    valkey.ltrim(QUEUE, 0, MESSAGES // 2 - 1)
    fleet.spawn()
    traffic.assert_done(wait_for_ends(client, ids, timeout=60))
    traffic.assert_each_arrived_once(sandbox, range(MESSAGES))
