"""One process of the system: started, suspended, ended, and never left behind."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


class Process:
    """A program with a log file. Every call is harmless in every state."""

    def __init__(self, name: str, command: Sequence[str], log: Path) -> None:
        self.name = name
        self.log = log
        self.command = list(command)
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._running.pid if self._running and self.alive else 0

    @property
    def alive(self) -> bool:
        """Whether it runs, or is suspended."""
        return self._running is not None and self._running.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None if it runs or never ran."""
        return self._running.poll() if self._running else None

    def spawn(self, environment: Mapping[str, str]) -> None:
        """Start it, unless it runs. It ends with this process, however that ends."""
        if self.alive:
            return
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                self.command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # A session of its own: Ctrl-C reaches the driver only, which ends all in order.
                start_new_session=True,
                preexec_fn=_end_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509 - the driver starts processes from one thread
            )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._running is not None and self.alive:
            with suppress(ProcessLookupError):
                self._running.send_signal(number)

    def kill(self) -> None:
        """End it at once, and wait until it has."""
        self.send(signal.SIGKILL)
        if self._running is not None:
            self._running.wait(10)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send(signal.SIGTERM)

    def suspend(self) -> None:
        """Let it do nothing, and keep its connections."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        if self._running is None:
            return True
        try:
            self._running.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Service:
    """A process that is started again if it ends by itself, as systemd would.

    Attributes:
        wanted: whether it is meant to run.
        failures: each time that it ended by itself.
    """

    def __init__(self, title: str, process: Process, environment: Mapping[str, str]) -> None:
        self.process = process
        self.wanted = False
        self.failures: list[str] = []
        self._title = title
        self._environment = dict(environment)

    def start(self) -> None:
        """Start it, unless it runs; it may not answer yet."""
        self.wanted = True
        self.process.spawn(self._environment)

    def kill(self) -> None:
        """SIGKILL."""
        self.wanted = False
        self.process.kill()

    def supervise(self) -> None:
        """Start it again if it has ended by itself."""
        if self.wanted and not self.process.alive:
            if self.process.exit_code is not None:
                self.failures.append(f"the {self._title} ended with {self.process.exit_code}")
            self.start()


def _end_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
