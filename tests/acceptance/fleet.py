"""Real workers as processes, which tests start, stop and kill."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from acceptance.previous_release import PreviousRelease
from conftest import wait_until
from dingrelay_chaos.valkey import records
from dingrelay_producers import Client, JobStatus, Settings
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.settings import AppSettings
from dingrelay_producers.store.connections import open_sync
from dingrelay_tasks.contract import DIRECTORY_QUEUE, EVENTS_QUEUE, QUEUES, WEBHOOKS_QUEUE
from dingrelay_workers.commands import LANES
from support import processes

MESSAGE_QUEUES = tuple(
    name for name in QUEUES if name not in {DIRECTORY_QUEUE, EVENTS_QUEUE, WEBHOOKS_QUEUE}
)
"""Queues that most tests need; a worker that serves the others loads SQLAlchemy first."""
PYTHON = [sys.executable, "-W", "ignore", "-m"]
CELERY = [*PYTHON, "celery"]
APP = "dingrelay_workers.app"


class Worker:
    """One worker process. Its log is a file, kept for the search for secrets."""

    def __init__(
        self,
        name: str,
        process: subprocess.Popen[bytes],
        log: Path,
        release: PreviousRelease | None = None,
    ) -> None:
        self.name = name
        self.process = process
        self.log = log
        self.release = release

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def ready(self) -> bool:
        return '"worker_ready"' in self.log.read_text()

    def kill(self) -> None:
        """kill -9: it gets no chance to say anything."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, timeout: float = 40) -> int:
        """SIGTERM, and wait for its exit code."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)


class Fleet:
    """Workers of one environment.

    Args:
        env: the DINGRELAY_* and DINGTALK_* variables of all workers.
        directory: where the logs go.
    """

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self.env = dict(env)
        self.directory = directory
        self.workers: list[Worker] = []

    def spawn(
        self,
        count: int = 1,
        *,
        concurrency: int = 16,
        queues: Iterable[str] = MESSAGE_QUEUES,
        app: str = "",
        options: Iterable[str] = (),
        release: PreviousRelease | None = None,
        wait: bool = True,
        stderr: Path | None = None,
        **env: str,
    ) -> list[Worker]:
        """Start workers; by default return once they are ready.

        Args:
            count: how many.
            concurrency: jobs at once in each.
            queues: what each serves.
            app: the module whose app Celery's own command starts, instead of `dingrelay worker`.
            options: further ones of Celery's worker.
            release: whose workers; this one's by default.
            wait: until they are ready, which their logs tell.
            stderr: where they write their lines, instead of a file of their own each.
            env: variables of these alone.
        """
        started = [
            self._start(app, concurrency, ",".join(queues), options, release, env, stderr)
            for _ in range(count)
        ]
        if wait:
            for worker in started:
                wait_until(
                    lambda worker=worker: worker.ready or not worker.alive,
                    timeout=60,
                    what=f"{worker.name} is ready",
                )
                assert worker.alive, worker.log.read_text()
        return started

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`dingrelay` in a process of its own, with the environment of the workers."""
        command = [*PYTHON, "dingrelay_producers.cli", *arguments]
        environment = self.environment(**env)
        return processes.run(command, env=environment, capture_output=True, text=True, timeout=60)

    def environment(self, **env: str) -> dict[str, str]:
        """Environment of a worker process."""
        ours = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONFAULTHANDLER": "1"}
        return {**os.environ, **ours, **self.env, **env}

    def _start(
        self,
        app: str,
        concurrency: int,
        queues: str,
        options: Iterable[str],
        release: PreviousRelease | None,
        env: Mapping[str, str],
        stderr: Path | None,
    ) -> Worker:
        name = f"w{len(self.workers)}"
        log = self.directory / f"{name}.log"
        python = [str(release.python), *PYTHON[1:]] if release else PYTHON
        command = [*python, "celery", "-A", app, "worker"]
        if not app:
            served = [lane for lane in LANES if f"dingrelay.{lane}" in queues]
            command = [
                *python,
                "dingrelay_producers.cli",
                "worker",
                "--lanes",
                ",".join(served),
                "--",
            ]
        command += ["-c", str(concurrency), "-Q", queues, "-n", f"{name}-{os.getpid()}@test"]
        command += ["--without-gossip", "--without-mingle", *options]
        with log.open("ab") as out, (stderr or log).open("ab") as lines:
            process = processes.Popen[bytes](
                command,
                env=release.environment(self.env | env) if release else self.environment(**env),
                cwd=release.folder if release else None,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=lines,
            )
        worker = Worker(name, process, log, release)
        self.workers.append(worker)
        return worker

    @property
    def alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]

    def stop(self) -> None:
        """Stop all workers; one that does not stop soon is killed, and that is a failure."""
        for worker in self.alive:
            worker.process.send_signal(signal.SIGTERM)
        stuck: list[str] = []
        for worker in self.workers:
            try:
                worker.process.wait(20)
            except subprocess.TimeoutExpired:
                # Python's fault handler writes down where each thread stands.
                worker.process.send_signal(signal.SIGABRT)
                worker.process.wait(10)
                stuck.append(worker.log.read_text(errors="replace")[-8000:])
        assert not stuck, "\n".join(["did not stop:", *stuck])

    def logs(self) -> str:
        """Logs of all workers."""
        return "\n".join(worker.log.read_text(errors="replace") for worker in self.workers)


def settings_of(env: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment has."""
    app = AppSettings.model_validate(
        {
            "app_key": env["DINGTALK_APP_KEY"],
            "app_secret": env["DINGTALK_APP_SECRET"],
            "agent_id": env["DINGTALK_AGENT_ID"],
        }
    )
    return Settings.load(
        env=env["DINGRELAY_ENV"],
        redis_url=env["DINGRELAY_REDIS_URL"],
        database_url=env["DINGRELAY_DATABASE_URL"],
        lease=float(env.get("DINGRELAY_LEASE", "30")),
        DINGTALK_OAPI_URL=env["DINGTALK_OAPI_URL"],
        DINGTALK_API_URL=env["DINGTALK_API_URL"],
        apps={"default": app},
    )


def states(client: Client, ids: Iterable[str]) -> Counter[str]:
    """How many jobs are in which state."""
    return Counter(str(status.state) for status in statuses(client, ids))


def statuses(client: Client, ids: Iterable[str]) -> list[JobStatus]:
    """The status of each job, in order."""
    return [client.status(job_id) for job_id in ids]


def wait_for_ends(client: Client, ids: Iterable[str], *, timeout: float) -> list[JobStatus]:
    """The statuses once every job has ended."""
    ids = list(ids)
    waiting = ids[::-1]

    def all_ended() -> bool:
        # One job a look: the others are asked once it has ended.
        while waiting and client.status(waiting[-1]).state.ended:
            waiting.pop()
        return not waiting

    wait_until(all_ended, timeout=timeout, what=f"{len(ids)} jobs have ended")
    return statuses(client, ids)


def records_text(url: str) -> str:
    """Everything that Redis holds, but for the token itself, as text."""
    with open_sync(RedisAddress.parse(url)) as redis:
        return "\n".join(f"{key}\n{value}" for key, value in records(redis))
