"""One worker of the fleet: a real ``dingrelay worker``, with a wall clock that may be wrong."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from dingrelay_chaos.process import Process

CLOCK = Path(__file__).resolve().parents[1] / "clock"
"""The folder whose ``sitecustomize.py`` shifts the clock of a Python process."""
COMMAND = (sys.executable, "-W", "ignore", "-m", "dingrelay_producers.cli", "worker")


class Worker:
    """A worker and those that took its place, in one log."""

    def __init__(self, name: str, environment: Mapping[str, str], concurrency: int,
                 folder: Path) -> None:  # fmt: skip
        self.name = name
        self._environment = dict(environment)
        command = [*COMMAND, "-c", str(concurrency)]
        self.process = Process(name, command, folder / f"{name}.log")
        self.skews: list[tuple[float, float]] = []
        """(Unix time, seconds): from when on its clock was wrong by so much."""
        self.wanted = False
        """Whether it is meant to run."""
        self.failures: list[str] = []
        """Each time that it ended by itself."""
        self.memory: list[int] = []
        """Bytes that the present process held, once a look."""
        self._started_at = 0
        self._stopping = False

    def start(self, skew: float) -> None:
        """Start it, unless it runs."""
        self.wanted = True
        if self.process.alive:
            # It was told to stop and takes its time; `supervise` starts the next one.
            return
        self.skews.append((time.time(), skew))
        self.memory.clear()
        self._stopping = False
        self._started_at = self.process.log.stat().st_size if self.process.log.exists() else 0
        self.process.spawn(shifted(self._environment, skew))

    def kill(self) -> None:
        """SIGKILL."""
        self.wanted = False
        self.process.kill()

    def terminate(self) -> None:
        """SIGTERM."""
        self.wanted = False
        self._stopping = True
        self.process.terminate()

    def suspend(self) -> None:
        """SIGSTOP."""
        self.process.suspend()

    def resume(self) -> None:
        """SIGCONT."""
        self.process.resume()

    @property
    def ready(self) -> bool:
        """Whether the present process has said so."""
        return self.process.alive and self._reported_ready()

    def supervise(self) -> None:
        """Start it again if it has ended by itself, as systemd would; note its memory."""
        if self.process.alive:
            with suppress(psutil.Error):
                self.memory.append(psutil.Process(self.process.pid).memory_info().rss)
        elif self.wanted:
            # One that never came up found Valkey away; one that was told to stop did so.
            if self._reported_ready() and not self._stopping:
                self.failures.append(f"{self.name} ended with {self.process.exit_code}")
            self.start(self.skews[-1][1] if self.skews else 0.0)

    def _reported_ready(self) -> bool:
        with self.process.log.open("rb") as log:
            log.seek(self._started_at)
            return b'"worker_ready"' in log.read()


def shifted(environment: Mapping[str, str], skew: float) -> dict[str, str]:
    """The environment of a Python process whose clock is wrong by so many seconds."""
    if not skew:
        return dict(environment)
    paths = [str(CLOCK), *filter(None, [environment.get("PYTHONPATH", "")])]
    return {
        **environment,
        "PYTHONPATH": os.pathsep.join(paths),
        "CHAOS_CLOCK_OFFSET": str(skew),
    }
