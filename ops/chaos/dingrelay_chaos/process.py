"""Processes of the system: started, suspended, ended, and never left behind."""

import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

CLI = (sys.executable, "-W", "ignore", "-m", "dingrelay_producers.cli")
COMMAND_SECONDS = 60
LOOPBACK = "127.0.0.1"
PORTS = range(20_000, 30_000)
"""Below those that Linux and macOS give to connections that go out."""
_PR_SET_PDEATHSIG = 1
_reserved: list[int] = []
"""File descriptors, which stay open until the process ends."""


def reserve() -> int:
    """A port that is this process's until it ends, even while nothing listens there.

    A server of a run is away at times, and no other run may take its address then. A process that
    has bound the UDP port of a number has reserved the TCP port.
    """
    first = random.randrange(len(PORTS))
    for port in chain(PORTS[first:], PORTS[:first]):
        note = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            note.bind((LOOPBACK, port))
            socket.create_server((LOOPBACK, port)).close()
        except OSError:
            note.close()
            continue
        _reserved.append(note.detach())
        return port
    raise OSError("no port is free")


def dingrelay(*arguments: str, environment: Mapping[str, str] = os.environ) -> str:
    """The output of one of our commands."""
    ran = subprocess.run(
        [*CLI, *arguments],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"dingrelay {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
    return ran.stdout


def wait_until(
    done: Callable[[], object],
    seconds: float,
    what: str = "",
    *,
    pause: float = 0.1,
    tick: Callable[[], object] = lambda: None,
) -> bool:
    """Whether something is so within so many seconds; `tick` is called between the looks.

    Raises:
        TimeoutError: it is not, and `what` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            if what:
                raise TimeoutError(what)
            return False
        tick()
        time.sleep(pause)
    return True


class Process:
    """A program with a log file. Every call is harmless in every state."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.command = list(command)
        self.environment = environment
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 while it does not run."""
        return self._running.pid if self._running and self.alive else 0

    @property
    def alive(self) -> bool:
        """Whether it runs, or is suspended."""
        return self._running is not None and self._running.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None if it runs or never ran."""
        return self._running.poll() if self._running else None

    def spawn(self) -> None:
        """Start it, unless it runs. It ends with this process, however that ends."""
        if self.alive:
            return
        with self.log.open("ab") as out:
            self._running = subprocess.Popen(
                self.command,
                env=dict(self.environment),
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
        """Stop it (SIGSTOP); it keeps its connections."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def ended_within(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        if self._running is not None:
            with suppress(subprocess.TimeoutExpired):
                self._running.wait(seconds)
        return not self.alive


class Service(Process):
    """A process that is started again if it ends by itself, as systemd would.

    Attributes:
        wanted: whether it is meant to run.
        failures: each time that it ended by itself.
    """

    wanted = False

    def __init__(
        self, name: str, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> None:
        super().__init__(name, [*CLI, *arguments], folder, environment)
        self.failures: list[str] = []

    def start(self) -> None:
        """Start it, unless it runs; it may not answer yet."""
        self.wanted = True
        self.spawn()

    def kill(self) -> None:
        """End it, and do not start it again."""
        self.wanted = False
        super().kill()

    def supervise(self) -> None:
        """Start it again if it has ended by itself."""
        if self.wanted and not self.alive:
            if self.exit_code is not None:
                self.failures.append(f"the {self.name} ended with {self.exit_code}")
            self.start()


def _end_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask
