"""`dingrelay up --sandbox`: everything from one command, and nothing left of it."""

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from acceptance.embedded import PROGRAMS, Up, run
from conftest import wait_until
from support import supervised
from support.gateways import ask

READY_SECONDS = 30
"""A few on an idle machine; these tests share theirs."""
SEND = ("send", "--to", "u1,u2", "--text", "你好", "--wait", "--json")


class Systems:
    """Systems in folders by name, most of which several tests share: a start takes all programs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Up] = []

    def start(self, name: str, **variables: str) -> Up:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.started.append(Up(folder, **variables))
        return self.started[-1]

    def running(self) -> Up:
        """One that is ready."""
        alive = [system for system in self.started if system.process.poll() is None]
        up = alive[0] if alive else self.start(f"number{len(self.started)}")
        up.wait_ready()
        return up


@pytest.fixture(scope="module")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systems]:
    """None yet; all are ended, and nothing may be left."""
    systems = Systems(tmp_path_factory.mktemp("systems"))
    yield systems
    for system in systems.started:
        if system.process.poll() is None:
            system.end(signal.SIGTERM)
    wait_until(lambda: not any(system.left_behind() for system in systems.started), timeout=10)


def test_two_systems_side_by_side_take_other_ports_and_keep_their_jobs(systems: Systems) -> None:
    up = systems.running()
    other = systems.start("there")
    other.wait_ready()
    shared = set(up.variables().items()) & set(other.variables().items())
    assert not {name for name, _ in shared} & {"DINGRELAY_REDIS_URL", "DINGTALK_OAPI_URL"}
    parked = other.run("send", "--to", "u1", "--text", "明天", "--at", "+1d", "--json")
    assert other.end(signal.SIGTERM) == 0
    assert other.left_behind() == []

    again = systems.start("there", DINGRELAY_LOG_LEVEL="ERROR")
    again.wait_ready()
    kept = again.run("job", "show", json.loads(parked.stdout)["id"], "--json")
    assert json.loads(kept.stdout)["state"] == "queued"
    # Nothing can be done in the way of a kill; its programs end all the same.
    again.end(signal.SIGKILL)
    wait_until(lambda: not again.left_behind(), timeout=10, what=str(again.left_behind()))


def test_it_runs_jobs_of_other_processes_and_survives_its_programs(systems: Systems) -> None:
    up = systems.running()
    assert up.ready_within < READY_SECONDS
    assert up.children().keys() == set(PROGRAMS)
    assert "dingrelay is ready in" in up.output()
    assert (up.folder / ".dingrelay" / "env").stat().st_mode & 0o777 == 0o600

    sent = up.run(*SEND)
    assert sent.returncode == 0, sent.stderr
    assert json.loads(sent.stdout)["result"]["accepted"] == 2

    (key,) = re.findall(r"drk_\S+", up.output())
    (port,) = re.findall(r"gateway +http://127.0.0.1:(\d+)/docs", up.output())
    body = {"to": {"users": ["u3"]}, "message": {"msgtype": "text", "text": {"content": "早"}}}
    answer = ask(int(port), "POST", "/v1/messages?wait=30", body, key=key, timeout=60)
    assert answer.json["state"] == "done"

    with Redis.from_url(up.variables()["DINGRELAY_REDIS_URL"]) as redis:
        assert redis.config_get("appendonly")["appendonly"] == "yes"
        assert redis.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"

    refused = up.run("up", "--sandbox")
    assert (refused.returncode, "another dingrelay up runs" in refused.stderr) == (2, True)

    up.children()["urgent,normal"].kill()
    again = up.run("send", "--to", "u3", "--text", "再见", "--wait", "--timeout", "60")
    assert again.returncode == 0, again.stderr
    assert "starting it again" in up.output()

    examined = up.run("doctor", "--json")
    results = {found["check"]: found["verdict"] for found in json.loads(examined.stdout)}
    assert set(results.values()) == {"ok"}, results

    assert up.end(signal.SIGINT) == 0
    assert up.left_behind() == []
    assert not (up.folder / ".dingrelay" / "env").exists()
    alone = up.run(*SEND)
    assert alone.returncode == 2
    assert "no running sandbox was found here" in alone.stderr


def test_sigterm_during_the_start_leaves_nothing(systems: Systems) -> None:
    up = systems.start("stopped")
    wait_until(lambda: "valkey-server" in up.children(), what="its first program")
    assert up.end(signal.SIGTERM) == 0
    assert up.left_behind() == []


def test_a_database_that_can_t_be_used_ends_everything(tmp_path: Path) -> None:
    (tmp_path / "directory.db").mkdir()  # no database can be there
    ended = run(
        tmp_path,
        *("up", "--sandbox"),
        command=supervised.command("dingrelay_producers.cli"),
        **supervised.variables(),
        DINGRELAY_DATABASE_URL="sqlite:///directory.db",
    )
    assert ended.returncode == 3
    assert "the database can't be used" in ended.stderr
    assert "everything has ended" in ended.stdout


def test_production_starts_nothing_embedded(tmp_path: Path) -> None:
    ended = run(tmp_path, "up", DINGRELAY_ENV="production")
    assert (ended.returncode, ended.stderr) == (2, "DINGRELAY_REDIS_URL: required in production\n")


def test_a_folder_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = run(tmp_path, *("up", "--data", "file/below"), DINGRELAY_ENV="sandbox")
    assert (ended.returncode, ended.stderr) == (2, "--data: Not a directory\n")
