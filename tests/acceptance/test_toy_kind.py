"""A new public kind is its own file: whatever carries, shows, limits or forgets jobs knows it from that."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from acceptance.fleet import Fleet, wait_for_ends
from acceptance.traffic import send_bare
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from support.databases import rows
from support.gateways import ask
from support.servers import free_port

PROGRAM = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("toy.py"))]
PATH, LIMIT = "/v1.0/toy/rings", 2
"""Calls in a second, as the kind declares."""
FROM_PYTHON = """
import sys
from acceptance.toy import RungPeople, ToyRing
from dingrelay_producers import Client
with Client() as client:
    print(client.send(ToyRing(to=RungPeople(users=["u1"]), text="python")).id)
"""
LONG_AGO_MS = 40 * 3_600_000
"""After which an ended job's record is not needed any more."""


class Toys:
    """Programs that know the kind."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = env
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{arguments[0]}.log"
        with log.open("ab") as lines:
            process = subprocess.Popen(
                [*PROGRAM, *arguments],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=lines,
                stderr=lines,
            )
        self.started.append(process)
        return process

    def run(self, *arguments: str, given: str = "") -> Any:
        """A command's answer."""
        done = subprocess.run(
            [*PROGRAM, *arguments, "--json"],
            env=self.env,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[0] if "\n{" in done.stdout else done.stdout)


@pytest.fixture
def toys(fleet: Fleet, tmp_path: Path) -> Iterator[Toys]:
    """A sandbox that knows the kind's API, and programs that work on it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    fleet.env |= {"DINGTALK_OAPI_URL": url, "DINGTALK_API_URL": url}
    env = fleet.environment(DINGRELAY_HISTORY='{"days": 30}')
    toys = Toys(env, tmp_path)
    toys.start("sandbox", "--port", str(port), "--users", "20", "--latency", "0")
    yield toys
    for process in reversed(toys.started):
        process.terminate()
        process.wait(40)


def test_a_kind_of_its_own(toys: Toys, fleet: Fleet, client: Client, valkey: Redis) -> None:
    sandbox = SandboxAdmin(toys.env["DINGTALK_API_URL"])
    gateway = free_port()
    toys.start("worker")
    toys.start("gateway", "--port", str(gateway))
    key = toys.run("key", "create", "toys", "--scope", "toys:write", "--scope", "jobs:read")["key"]

    python = subprocess.run(
        [sys.executable, "-c", FROM_PYTHON],
        env=toys.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    job = {"to": {"users": ["u1", "u2"]}, "text": "celery"}
    (bare,) = send_bare(fleet.env["DINGRELAY_REDIS_URL"], [job], "toy-ring")
    wait_until(lambda: responds(gateway), timeout=60)
    asked = ask(gateway, "POST", "/v1/toy-rings", {**job, "text": "http"}, key=key)
    over_http = asked.json["id"]
    lines = "".join(
        json.dumps({"kind": "toy-ring", **job, "text": f"line {number}"}) + "\n"
        for number in range(6)
    )
    sent = toys.run("send", "--jobs", "-", given=lines)

    wait_until(lambda: valkey.exists(keys.job(bare)), timeout=60, what="the bare job has a record")
    wait_until(lambda: len(sandbox.calls(api=PATH)) == 9, timeout=60, what="all rang")
    ended = wait_for_ends(client, [python, bare, over_http], timeout=30)
    assert {status.state for status in ended} == {"done"}, sent
    assert all((status.result or {})["ring"].startswith("ring-") for status in ended)
    times = sorted(call["at"] for call in sandbox.calls(api=PATH))
    assert max(sum(0 <= at - start < 1 for at in times) for start in times) <= LIMIT

    shown = toys.run("job", "show", bare)
    assert (shown["kind"], shown["result"]) == ("toy-ring", ended[1].result)
    assert shown["recipients"] == {"u1": "accepted", "u2": "accepted"}

    def received(user: str) -> set[str]:
        """The jobs; a command is an interpreter of its own, which imports everything."""
        query = 'select job from job_recipients where "user" = :user'
        return {row["job"] for row in rows(fleet.env["DINGRELAY_DATABASE_URL"], query, user=user)}

    wait_until(lambda: len(received("u1")) == 9, timeout=30, what="the history has them")
    shown = toys.run("person", "show", "u2")
    assert {each["job"] for each in shown["messages"]} >= {bare, over_http}

    for record in valkey.scan_iter(keys.job("*")):
        long_ago = int(time.time() * 1000) - LONG_AGO_MS
        valkey.hset(record, mapping={"settled": long_ago, "created": long_ago})
    toys.run("person", "erase", "u2", "--yes")
    assert not toys.run("person", "show", "u2")["messages"]
    assert len(received("u1")) == 9
    assert not valkey.exists(keys.job(bare), keys.job(over_http))
    sandbox.close()


def responds(gateway: int) -> bool:
    try:
        return ask(gateway, "GET", "/healthz", timeout=5).status == 200
    except OSError:
        return False
