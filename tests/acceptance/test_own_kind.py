"""A kind that another package brings, as the guide's page writes it: whatever carries, shows, limits or forgets jobs has it."""

import json
import re
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
from support import packages, processes, supervised
from support.databases import rows
from support.gateways import ask
from support.servers import free_port

PAGE = Path(__file__).parents[2] / "docs/guide/kinds.md"
PROGRAM = [sys.executable, "-m", "dingrelay_producers.cli"]
TODOS, LIMIT = "/v1.0/todo/users/", 2
"""Calls in a second, as the kind declares."""
FROM_PYTHON = """
from acme_todo.todo import Todo
from dingrelay_producers import Client
with Client() as client:
    print(client.send(Todo(user="u1", subject="python", url="https://example.com")).id)
"""
LONG_AGO_MS = 40 * 3_600_000
"""After which an ended job's record is not needed any more."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the page, with its tests, installed for who searches its ``src``."""
    folder = tmp_path_factory.mktemp("acme-todo")
    code = re.findall(
        r"^```py\n# (\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    for path, content in code:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, "utf-8")
    kinds = {"acme-todo": "acme_todo.todo"}
    packages.install(
        folder / "src", "acme_todo", modules={"acme_todo/__init__.py": ""}, kinds=kinds
    )
    return folder


@pytest.fixture(scope="module")
def finding(project: Path) -> Iterator[dict[str, str]]:
    """Variables of programs that find the package."""
    with processes.with_packages(project / "src") as variables:
        yield variables


def test_the_pages_own_tests_pass(project: Path, finding: dict[str, str]) -> None:
    run = supervised.run_tests(project / "tests", Path(finding["PYTHONPATH"]), **finding)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "3 passed" in run.stdout


class Programs:
    """Programs that find the package."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env = env
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{arguments[0]}.log"
        with log.open("ab") as lines:
            process = processes.Popen[bytes](
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
        done = processes.run(
            [*PROGRAM, *arguments, "--json"],
            env=self.env,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[0] if "\n{" in done.stdout else done.stdout)


@pytest.fixture
def programs(fleet: Fleet, finding: dict[str, str], tmp_path: Path) -> Iterator[Programs]:
    """Programs that find the package and work on the fleet."""
    programs = Programs(fleet.environment(DINGRELAY_HISTORY='{"days": 30}') | finding, tmp_path)
    yield programs
    for process in reversed(programs.started):
        process.terminate()
        process.wait(40)


def test_every_door_has_the_kind(
    programs: Programs, fleet: Fleet, client: Client, sandbox: SandboxAdmin, valkey: Redis
) -> None:
    sandbox.add_fault("http", api=TODOS, status=200, body={"id": "task-1"})
    gateway = free_port()
    programs.start("worker")
    programs.start("gateway", "--port", str(gateway))
    key = programs.run("key", "create", "acme", "--scope", "todos:write", "--scope", "jobs:read")[
        "key"
    ]

    python = processes.run(
        [sys.executable, "-c", FROM_PYTHON],
        env=programs.env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    job = {"user": "u2", "url": "https://example.com"}
    (bare,) = send_bare(
        fleet.env["DINGRELAY_REDIS_URL"], [{**job, "subject": "celery"}], "acme-todo"
    )
    wait_until(lambda: responds(gateway), timeout=60)
    over_http = ask(gateway, "POST", "/v1/todos", {**job, "subject": "http"}, key=key).json["id"]
    lines = "".join(
        json.dumps({"kind": "acme-todo", **job, "subject": f"line {number}"}) + "\n"
        for number in range(6)
    )
    sent = programs.run("send", "--jobs", "-", given=lines)
    document = ask(gateway, "GET", "/openapi.json", key=key).json
    assert document["paths"]["/v1/todos"]["post"]["operationId"] == "createTodo"

    wait_until(lambda: valkey.exists(keys.job(bare)), timeout=60, what="the bare job has a record")
    wait_until(lambda: len(sandbox.calls(api=TODOS)) == 9, timeout=60, what="all are called")
    ended = wait_for_ends(client, [python, bare, over_http], timeout=30)
    assert {status.state for status in ended} == {"done"}, sent
    assert all(status.result == {"task": "task-1"} for status in ended)
    times = sorted(call["at"] for call in sandbox.calls(api=TODOS))
    assert max(sum(0 <= at - start < 1 for at in times) for start in times) <= LIMIT

    shown = programs.run("job", "show", bare)
    assert (shown["kind"], shown["result"]) == ("acme-todo", ended[1].result)
    assert shown["recipients"] == {"u2": "accepted"}

    def received(user: str) -> set[str]:
        """The jobs; a command is an interpreter of its own, which imports everything."""
        query = 'select job from job_recipients where "user" = :user'
        return {row["job"] for row in rows(fleet.env["DINGRELAY_DATABASE_URL"], query, user=user)}

    wait_until(lambda: len(received("u2")) == 8, timeout=30, what="the history has them")
    shown = programs.run("person", "show", "u2")
    assert {message["job"] for message in shown["messages"]} >= {bare, over_http}

    for record in valkey.scan_iter(keys.job("*")):
        long_ago = int(time.time() * 1000) - LONG_AGO_MS
        valkey.hset(record, mapping={"settled": long_ago, "created": long_ago})
    programs.run("person", "erase", "u2", "--yes")
    assert not programs.run("person", "show", "u2")["messages"]
    assert len(received("u1")) == 1
    assert not valkey.exists(keys.job(bare), keys.job(over_http))


def responds(gateway: int) -> bool:
    try:
        return ask(gateway, "GET", "/healthz", timeout=5).status == 200
    except OSError:
        return False
