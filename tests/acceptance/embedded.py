"""A `dingrelay up --sandbox` of its own, started and ended like a person does."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from conftest import wait_until
from support import processes, supervised

PROGRAMS = (
    "valkey-server",
    "sandbox",
    "urgent,normal",
    "events,bulk,directory,webhooks",
    "flower",
    "gateway",
    "console",
    "cli events",
)
"""A word in the command of each program that `up --sandbox` starts."""
DINGRELAY = [sys.executable, "-m", "dingrelay_producers.cli"]


class Up:
    """One system in one folder."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder = folder
        self.log = folder / "up.log"
        self.ready_within = math.inf
        """Seconds from its start until a test saw it ready."""
        self._began = time.monotonic()
        with self.log.open("wb") as out:
            self.process = processes.Popen[bytes](
                supervised.command("dingrelay_producers.cli", "up", "--sandbox", "-c", "4"),
                cwd=folder,
                env=_environment(supervised.variables() | variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        self._family: dict[int, psutil.Process] = {}

    def wait_ready(self, timeout: float = 60) -> None:
        """Return once its file says how to reach it."""
        file = self.folder / ".dingrelay" / "env"
        wait_until(
            lambda: file.exists() or self.process.poll() is not None, timeout=timeout, what="ready"
        )
        assert file.exists(), self.output()
        self.ready_within = min(self.ready_within, time.monotonic() - self._began)
        self.children()

    def children(self) -> dict[str, psutil.Process]:
        """The running programs, by the words of their commands that distinguish them."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        self._family |= {child.pid: child for child in found}
        running = {_word(child): child for child in found if _runs(child)}
        running.pop(supervised.SERVER, None)
        return running

    def end(self, number: int, timeout: float = 60) -> int:
        """Send it a signal and wait for its exit code."""
        self.children()
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def left_behind(self) -> list[str]:
        """Programs that it ever had and that still run."""
        return [_word(child) for child in self._family.values() if _runs(child)]

    def variables(self) -> dict[str, str]:
        """The variables in its file."""
        text = (self.folder / ".dingrelay" / "env").read_text()
        return dict(line.split("=", 1) for line in text.splitlines())

    def output(self) -> str:
        """Everything that it printed."""
        return self.log.read_text(errors="replace")

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command in another process, in the same folder."""
        return run(self.folder, *arguments, **variables)


def run(
    folder: Path, *arguments: str, command: Sequence[str] = DINGRELAY, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`dingrelay` in a process of its own."""
    return processes.run(
        [*command, *arguments],
        cwd=folder,
        env=_environment(variables),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **variables}


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def _word(process: psutil.Process) -> str:
    """The name of a process's program."""
    try:
        command = " ".join(process.cmdline()).strip()
    except psutil.Error:
        return "gone"
    return next((word for word in PROGRAMS if word in command), command)
