"""Test processes as forks of one that has imported all tests.

xdist starts each as an interpreter of its own, which imports our packages and all tests again: a tenth of
all that the tests cost. Here one process imports them as pytest does, and makes no test of them. It is a
server as that in `processes`, and what it forks is the interpreter that xdist has asked for.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NoReturn

import pytest
from execnet.gateway_base import ThreadExecModel
from execnet.gateway_io import popen_bootstrapline

import processes

PROGRAM = "import preloaded; preloaded.serve()"


class _TestProcess(processes.Popen[bytes]):
    """One that xdist starts."""

    server: ClassVar[processes.Server]

    def _fork_for(self, named: Mapping[str, Any]) -> tuple[processes.Server, processes.Start]:
        assert list(named["args"][1:]) == ["-u", "-c", popen_bootstrapline]
        self.server.wait()
        start = processes.Start(
            option="-c",
            program=popen_bootstrapline,
            arguments=[],
            variables=dict(os.environ),
            folder=str(Path.cwd()),
            path=sys.path,
            no_warnings=False,
            new_session=False,
        )
        return self.server, start


class _Imported:
    """Lets pytest import what it collects, and make nothing of it."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self) -> list[pytest.Item]:
        return []


def start(arguments: Sequence[str]) -> None:
    """Have the test processes of this pytest, which has these arguments, as forks."""
    server = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments, " " * processes.LONGEST_COMMAND],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    _TestProcess.server = processes.Server(server.stdout.readline().strip())
    atexit.register(server.wait, 30)
    atexit.register(_TestProcess.server.close)
    started = SimpleNamespace(PIPE=subprocess.PIPE, Popen=_TestProcess)
    ThreadExecModel.subprocess = started  # type: ignore[assignment, method-assign]


def serve() -> NoReturn:
    """Be the process that has imported all tests, until who has started it is gone."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"{tempfile.mkdtemp(prefix='tests-')}/server")
    listener.listen()
    print(listener.getsockname(), flush=True)  # noqa: T201
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    pytest.main([*sys.argv[1:-1], "-n0", "--collect-only"], plugins=[_Imported()])
    # The first example reads the constants of all our modules. pytest is to import it first.
    from hypothesis import given, strategies

    @given(strategies.text() | strategies.integers())
    def draw(_: object) -> None:
        """Nothing is made of it."""

    draw()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who has started it ends it
    report: dict[str, Any] = {"variables": {}, "read": [], "modules": [], "path": []}
    # Whose pytest is gone ends in order, with the servers that it has started.
    processes.serve(listener, json.dumps(report).encode(), ends_forks=False)
