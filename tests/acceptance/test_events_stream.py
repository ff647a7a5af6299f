"""`dingrelay events` as a process: two side by side, one of which is killed, and a clean end."""

import signal
import subprocess
from pathlib import Path

import pytest
from redis import Redis

from acceptance.fleet import PYTHON, Fleet
from conftest import wait_until
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from support import processes

EVENTS = 120


def start(fleet: Fleet, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return processes.Popen(
            [*PYTHON, "dingrelay_producers.cli", "events"],
            env=fleet.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def connected(sandbox: SandboxAdmin) -> int:
    return sum(each["state"] == "open" for each in sandbox.streams())


@pytest.mark.timeout(120)
def test_no_event_is_lost_with_the_process_that_had_it(
    fleet: Fleet, sandbox: SandboxAdmin, valkey: Redis, tmp_path: Path
) -> None:
    sandbox.set_delivery(scale=0.02)
    logs = [tmp_path / f"events{number}.log" for number in range(2)]
    killed, other = (start(fleet, log) for log in logs)
    try:
        wait_until(lambda: connected(sandbox) == 2, timeout=60, what="both are connected")
        events = [
            {"type": "user_modify_org", "fields": {"userId": [f"u{n}"]}} for n in range(EVENTS)
        ]
        ids = sandbox.fire_many(events, per_second=100)
        wait_until(lambda: sandbox.events_summary()["delivered"] > EVENTS // 4)
        killed.send_signal(signal.SIGKILL)
        wait_until(
            lambda: sandbox.events_summary()["delivered"] >= EVENTS, what="all are delivered"
        )
        assert sandbox.events_summary()["failed"] == 0
        other.send_signal(signal.SIGTERM)
        assert other.wait(20) == 0
    finally:
        for process in (killed, other):
            process.kill()
            process.wait(10)
    wait_until(lambda: connected(sandbox) == 0)
    jobs = [record.keyed_id("default", "event", each) for each in ids]
    assert [valkey.hget(keys.job(each), "state") for each in jobs] == [b"queued"] * EVENTS
    output = "".join(log.read_text() for log in logs)
    assert "Traceback" not in output
    assert "sandbox-secret" not in output
    assert "ticket=" not in output


def test_without_an_app_to_listen_for_it_says_so(fleet: Fleet) -> None:
    callback = {"DINGTALK_CALLBACK_TOKEN": "T0ken", "DINGTALK_CALLBACK_AES_KEY": "a" * 43}
    ran = fleet.run("events", **callback)
    assert ran.returncode == 2
    assert "none to listen for" in ran.stderr
