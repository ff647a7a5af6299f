"""`kill -9` of the gateway while clients send and retry blindly: each message arrives, once."""

import http.client
import os
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from acceptance.fleet import Fleet, wait_for_ends
from acceptance.gateway_process import GatewayProcess, made_key
from conftest import wait_until
from dingrelay_producers import Client, State
from dingrelay_sandbox.admin import SandboxAdmin

KILLS = int(os.environ.get("GATEWAY_KILLS", "2"))
MESSAGES = int(os.environ.get("GATEWAY_MESSAGES", "80"))
"""20 and 2,000 show the same, and take minutes."""
CLIENTS = 8


@pytest.fixture
def sandbox_env(sandbox_env: dict[str, str]) -> dict[str, str]:
    # A gateway may die between a job's record and its wake-up, which is missed only after this time.
    return sandbox_env | {"DINGRELAY_LEASE": "2"}


@pytest.fixture
def key(fleet: Fleet) -> str:
    return made_key(fleet, "crm")


def send(gateway: GatewayProcess, key: str, number: int) -> str:
    """The id of the job, however often it takes."""
    body = {
        "to": {"users": [f"u{number % 200 + 1}"]},
        "message": {"msgtype": "text", "text": {"content": f"订单 {number}"}},
    }
    options: Any = {"key": key, "timeout": 10, "Idempotency_Key": f"order-{number}"}
    accepted: list[Any] = []

    def try_once() -> bool:
        try:
            answer = gateway.ask("POST", "/v1/messages", body, **options)
        except (OSError, http.client.HTTPException):
            return False
        # 409: the one that was killed had begun with it. 503: it is just coming up.
        assert answer.status in {202, 409, 503}, answer
        if answer.status == 202:
            accepted.append(answer.json["id"])
        return answer.status == 202

    wait_until(try_once, timeout=100)
    return accepted[0]


def sent_by_all(gateway: GatewayProcess, key: str, between: Callable[[int], None]) -> list[str]:
    """The ids of all jobs; `between` gets how many are accepted."""
    count = 0
    lock = threading.Lock()

    def one(number: int) -> str:
        nonlocal count
        job_id = send(gateway, key, number)
        with lock:
            count += 1
        return job_id

    with ThreadPoolExecutor(CLIENTS) as pool:
        jobs = [pool.submit(one, number) for number in range(MESSAGES)]
        while not all(job.done() for job in jobs):
            between(count)
        return [job.result() for job in jobs]


@pytest.mark.timeout(600)
def test_accepted_messages_arrive_once(
    fleet: Fleet, gateway: GatewayProcess, key: str, client: Client, sandbox: SandboxAdmin
) -> None:
    sandbox.set_limits(calls=None)
    fleet.spawn(1)
    wait_until(gateway.ready, timeout=60)
    kills = 0

    def kill_at_times(accepted: int) -> None:
        nonlocal kills
        if kills < KILLS and accepted >= (kills + 1) * MESSAGES // (KILLS + 2):
            kills += 1
            gateway.replace()
        else:
            threading.Event().wait(0.01)

    ids = sent_by_all(gateway, key, kill_at_times)
    assert kills == KILLS
    assert len(set(ids)) == MESSAGES
    ended = wait_for_ends(client, ids, timeout=300)
    assert {status.state for status in ended} == {State.DONE}
    received = [
        entry["message"]["text"]["content"]
        for number in range(1, min(MESSAGES, 200) + 1)
        for entry in sandbox.inbox(f"u{number}")["delivered"]
    ]
    assert sorted(received) == sorted(f"订单 {number}" for number in range(MESSAGES))
    assert gateway.stop() == 0
    log = gateway.log.read_text()
    assert re.search(r'"route": ?"/v1/messages"', log)
    for secret in (key, key.partition(".")[2], "订单"):
        assert secret not in log
    assert "Traceback" not in log
