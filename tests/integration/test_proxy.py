"""How a process reaches DingTalk by HTTPS_PROXY, which certificates it trusts, and its file descriptors."""

import os
import resource
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers import preflight
from dingrelay_workers.dingtalk.apis import DEPARTMENT
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import Transient
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport
from support.production import HOSTS, dingtalk
from support.servers import Authority

PROXY = "http://proxy.example.com:3128"


class Tunnel(socketserver.BaseRequestHandler):
    """A connection to a proxy, which leads each host to DingTalk's port on this machine."""

    def handle(self) -> None:
        server: Any = self.server
        asked = self.request.recv(4_096).decode()
        server.asked.append(asked.split()[1])
        if not server.lets:
            self.request.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", server.leads_to)) as far, suppress(OSError):
            self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_carry, args=(far, self.request), daemon=True)
            back.start()
            _carry(self.request, far)


def _carry(here: socket.socket, there: socket.socket) -> None:
    with suppress(OSError):
        while data := here.recv(65_536):
            there.sendall(data)
        there.shutdown(socket.SHUT_WR)


# aiohttp reads SSL_CERT_FILE when it is imported.
ASK = """
import asyncio
from dingrelay_producers.settings import Settings
from dingrelay_workers.dingtalk.apis import DEPARTMENT
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import Transport

async def ask():
    settings = Settings.load(env="test")
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier({}), settings)
        try:
            await transport.request(Request(DEPARTMENT, body={"dept_id": 1}), "no token")
        except DingTalkError as error:
            print(error.name, error.message, error.hint)

asyncio.run(ask())
"""


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[tuple[Any, Callable[..., str]]]:
    """A proxy, and what a call of DingTalk's ends with that has some variables."""
    authority = Authority(tmp_path / "authority")
    with ExitStack() as stack:
        certificate = authority.issue("dingtalk", "127.0.0.1", *HOSTS)
        _, encrypted = stack.enter_context(dingtalk(certificate))
        server: Any = stack.enter_context(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Tunnel))
        server.daemon_threads, server.asked, server.lets = True, [], True
        server.leads_to = encrypted
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        env |= {
            "HTTPS_PROXY": f"http://127.0.0.1:{server.server_address[1]}",
            "SSL_CERT_FILE": str(authority.cert),
        }

        def outcome(**variables: str) -> str:
            command = [sys.executable, "-W", "ignore", "-c", ASK]
            return subprocess.run(
                command,
                env=env | variables,
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            ).stdout

        yield server, outcome


def test_dingtalk_is_reached_by_the_proxy_and_with_the_cas_of_the_environment(
    tunnel: tuple[Any, Callable[..., str]],
) -> None:
    server, outcome = tunnel
    assert outcome().startswith("token_invalid")
    assert server.asked == ["oapi.dingtalk.com:443"]
    refused = outcome(SSL_CERT_FILE="")
    assert "its certificate is refused: " in refused
    assert "SSL_CERT_FILE" in refused
    server.lets = False
    assert "the proxy answers 407" in outcome()


@pytest.mark.parametrize(
    ("url", "variables", "proxy"),
    [
        ("https://oapi.dingtalk.com", {"HTTPS_PROXY": PROXY}, PROXY),
        ("wss://wss.dingtalk.com/connect", {"https_proxy": PROXY}, PROXY),
        ("https://oapi.dingtalk.com", {"HTTPS_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://oapi.dingtalk.com", {"HTTPS_PROXY": PROXY, "NO_PROXY": ".dingtalk.com"}, None),
        ("https://127.0.0.1:8443", {"HTTPS_PROXY": PROXY}, None),
        ("http://127.0.0.1:8600", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}, None),
        ("https://oapi.dingtalk.com", {}, None),
    ],
)
def test_which_proxy_is_asked(
    url: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == proxy


def test_another_kind_of_proxy_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1080")
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(SettingsError, match="HTTPS_PROXY: must be like"):
        preflight.check(Settings.load(env="test"))


async def test_a_process_without_descriptors_reports_no_outage(sandbox: SandboxAdmin) -> None:
    settings = Settings.load(env="sandbox", oapi_url=sandbox.base_url, api_url=sandbox.base_url)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier({}), settings)
        try:
            taken.append(os.dup(2))
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 8, hard))
            with suppress(OSError):
                while True:
                    taken.append(os.dup(2))
            with pytest.raises(Transient) as caught:
                await transport.request(Request(DEPARTMENT, body={"dept_id": 1}), "token")
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.code, caught.value.sick) == ("too_many_open_files", "")
    assert "out of file descriptors" in caught.value.message


@pytest.mark.parametrize(
    ("limits", "raised", "said"),
    [((256, 256), 256, True), ((256, 4096), 300, False), ((1024, 1024), None, False)],
)
def test_a_worker_of_200_jobs_and_its_limit_of_open_files(
    limits: tuple[int, int], raised: int | None, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: set_to.append(pair[0]))
    with capture_logs() as lines:
        preflight.raise_descriptor_limit(200)
    assert set_to == ([raised] if raised else [])
    assert [line["event"] for line in lines] == (["too_few_descriptors"] if said else [])
