"""Commands that supervise programs of ours, `dingrelay up` and the demo: the programs as forks.

`python -c` with `PROGRAM`, the module and its arguments is `python -m` with them, but for this: before
it begins it forks a server as that in `processes`, its child. Programs of ours are forks of that, each
of which would take a second of imports. All end with the supervisor, as otherwise, too. What a
supervisor does for programs that start as it wants is in `tests/integration/test_supervisor.py`.
"""

import asyncio
import atexit
import io
import json
import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dingrelay_workers.embedded.child import Child
from support import processes
from support.processes import DEVNULL, STDOUT, TimeoutExpired

__all__ = [
    "DEVNULL",
    "STDOUT",
    "Popen",
    "TimeoutExpired",
    "command",
    "run",
    "run_tests",
    "variables",
]

PROGRAM = "from support import supervised; supervised.run()"
PYTEST = """
import sys
import pytest
from dingrelay_producers.testing import fixtures
from support import supervised
fixtures.subprocess = supervised
sys.exit(pytest.main(["-p", "no:cacheprovider", "-q", "--rootdir", ".", "."]))
"""
SERVER = "the server of forks"
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
LOOK_SECONDS = 0.02


def command(module: str, *arguments: str, before: str = "") -> list[str]:
    """`python -m` with this module, whose programs are forks, after some lines of Python."""
    return [sys.executable, "-c", f"{before}\n{PROGRAM}", module, *arguments]


def variables() -> dict[str, str]:
    """Variables that the command needs."""
    return {"PYTHONPATH": os.pathsep.join(sys.path), **processes.address()}


def run_tests(
    folder: Path, *path: Path, seconds: float = 120, **variables: str
) -> "processes.CompletedProcess[str]":
    """A run of pytest on a folder's tests; the programs of their system are forks.

    Args:
        folder: with the tests.
        path: what they import from, before the rest.
        seconds: that it may take.
        variables: of its environment.
    """
    return processes.run(
        [sys.executable, "-c", PYTEST],
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_ADDOPTS": "",
            **variables,
            "PYTHONPATH": os.pathsep.join([*map(str, path), *sys.path]),
        },
        capture_output=True,
        text=True,
        timeout=seconds,
    )


class Popen(processes.Popen[bytes]):
    """`subprocess.Popen` of a program that starts such a command itself."""

    def __init__(self, words: Sequence[str], *, env: Mapping[str, str], **options: Any) -> None:
        _, _, module, *arguments = words
        super().__init__(command(module, *arguments), env={**env, **variables()}, **options)


class _Fork:
    """The part of `asyncio.subprocess.Process` that a supervisor uses."""

    def __init__(self, process: processes.Popen[bytes], output: asyncio.StreamReader) -> None:
        self.pid = process.pid
        self.stdout = output
        self._process = process

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def wait(self) -> int:
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(LOOK_SECONDS)
        return code


async def _started(words: tuple[str, ...], environment: dict[str, str]) -> _Fork:
    process = processes.Popen[bytes](
        words,
        env=environment | UNBUFFERED | {"PYTHONWARNINGS": "ignore"},
        stdin=processes.DEVNULL,
        stdout=processes.PIPE,
        stderr=processes.STDOUT,
        start_new_session=True,
    )
    assert process.forked, words
    output = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(output), process.stdout
    )
    return _Fork(process, output)


def _serve() -> None:
    """Start the server, as a child of this process that ends with it."""
    above = processes.running_server()
    assert above
    # Supervisors want no buffers.
    report = above.report | {"variables": above.report["variables"] | UNBUFFERED}
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{tempfile.mkdtemp(prefix='forks-')}/server")
    listener.listen()
    pid = os.fork()
    if not pid:
        above.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of Ctrl-C the supervisor makes an end
        processes.show_command([SERVER])
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), write_through=True)
        processes.serve(listener, json.dumps(report).encode())
    address: str = listener.getsockname()
    listener.close()
    mine = processes.use(address)
    atexit.register(os.waitpid, pid, 0)
    atexit.register(mine.close)


def run() -> None:
    """Be the command; where nothing is forked, with processes as it starts them."""
    del sys.argv[0]
    if processes.forking():
        _serve()
        _fork_programs()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _fork_programs() -> None:
    real = Child._spawn

    async def spawn(child: Any, environment: dict[str, str]) -> Any:
        words = child.program.command
        if words[0] != sys.executable:
            return await real(child, environment)
        return await _started(words, environment)

    Child._spawn = spawn
