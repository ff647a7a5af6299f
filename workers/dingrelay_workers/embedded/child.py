"""A program that runs as a child of this process, and ends with it."""

import asyncio
import ctypes
import os
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dingrelay_tasks.sentence import en, joined

if TYPE_CHECKING:
    from dingrelay_workers.embedded.supervisor import Screen

START_SECONDS = 120.0
LAST_LINES = 10
"""Lines of a program's output that are shown again where it fails."""
LOOK_SECONDS = 0.05
CHUNK = 65_536
_PR_SET_PDEATHSIG = 1


class StartFailed(Exception):
    """A program did not become ready."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run.

    Attributes:
        name: the prefix of its output.
        command: for exec.
        port: it is ready once something listens there; without one, once it says so (`running.notify_ready`).
        stop_timeout: seconds it may take to end after SIGTERM.
        orphaned: the signal it gets if this process is killed.
        hidden: lines with this text are not shown.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    stop_timeout: float = 5.0
    orphaned: signal.Signals = signal.SIGKILL
    hidden: str | None = None


class Child:
    """One running program. Its output goes to the screen, line by line."""

    def __init__(self, program: Program, environment: Mapping[str, str], screen: "Screen") -> None:
        self.program = program
        self._environment = environment
        self._screen = screen
        self._process: Process | None = None
        self._output: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)

    async def start(self) -> None:
        """Start it, and return once it is ready.

        Raises:
            StartFailed: it ended first, or was not ready in time.
        """
        with (
            tempfile.TemporaryDirectory(prefix="dingrelay-") as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices,
        ):
            address = str(Path(folder, "ready"))
            notices.bind(address)
            notices.setblocking(False)
            self._process = await self._spawn({**self._environment, "NOTIFY_SOCKET": address})
            self._output = asyncio.create_task(self._dispatcher(self._process))
            try:
                async with asyncio.timeout(START_SECONDS):
                    while not await self._is_ready(notices):
                        if self._process.returncode is not None:
                            await asyncio.wait([self._output], timeout=1)
                            code = self._process.returncode
                            ended = en("{} ended with {}", self.program.name, code)
                            raise StartFailed(self.with_output(ended))
                        await asyncio.sleep(LOOK_SECONDS)
            except TimeoutError:
                late = en("{} was not ready within {:g} s", self.program.name, START_SECONDS)
                raise StartFailed(self.with_output(late)) from None

    def with_output(self, problem: str) -> str:
        """A problem of the program, followed by its last lines, which name the cause more often than not."""
        lines = [f"  {line}" for line in self._last_lines if line]
        return joined("\n", [en("{}. Its last lines:", problem), *lines]) if lines else problem

    async def _spawn(self, environment: Mapping[str, str]) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self.program.command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                env=environment,
                # A session of its own: Ctrl-C reaches us only, and we end them in order.
                start_new_session=True,
                preexec_fn=_end_with_parent(self.program.orphaned),
            )
        except OSError as error:
            raise StartFailed(
                en("{} cannot be started: {}", self.program.name, error.strerror)
            ) from None

    async def wait(self) -> int:
        """The program's exit code, once it has ended; negative for a signal."""
        assert self._process is not None
        code = await self._process.wait()
        self._signal(signal.SIGKILL)  # whatever it has started and left behind
        return code

    async def stop(self) -> None:
        """End it: politely, then not. Nothing happens if it does not run."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            self._signal(signal.SIGTERM, group=False)
            try:
                await asyncio.wait_for(process.wait(), self.program.stop_timeout)
            except TimeoutError:
                self._screen.say(en("{} does not end by itself; killing it", self.program.name))
        self.kill()
        await process.wait()
        if self._output:
            await asyncio.wait([self._output], timeout=1)
            self._output.cancel()

    def kill(self) -> None:
        """End it and all it has started at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals, *, group: bool = True) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    async def _is_ready(self, notices: socket.socket) -> bool:
        if self.program.port is None:
            try:
                return bool(notices.recv(CHUNK))
            except BlockingIOError:
                return False
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.program.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _dispatcher(self, process: Process) -> None:
        """The program's output, line by line, however long the lines are."""
        assert process.stdout is not None
        unfinished = b""
        while chunk := await process.stdout.read(CHUNK):
            *lines, unfinished = (unfinished + chunk).split(b"\n")
            for line in lines:
                self._show(line)
        if unfinished:
            self._show(unfinished)

    def _show(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if self.program.hidden and self.program.hidden in text:
            return
        self._last_lines.append(text)
        self._screen.line(self.program.name, text)


def _end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """A callable that has Linux signal the child when this process ends, however it ends."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), number)

    return ask
