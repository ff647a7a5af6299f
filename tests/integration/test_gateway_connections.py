"""Clients that send nothing, read nothing, or send what they were not asked for."""

import json
import socket
from collections.abc import Iterator

import pytest

from conftest import wait_until
from dingrelay_producers.settings import Settings
from dingrelay_workers.gateway.drop_in.door import STRANGERS_LIMIT
from dingrelay_workers.http import connection
from drop_in import SEND, asking, token_of
from gateways import GatewayClient, gateway_thread


@pytest.fixture
def gateway(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayClient]:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.5)
    with gateway_thread(Settings.load(env="sandbox", redis_url=valkey_url)) as client:
        yield client


def connected(gateway: GatewayClient, *, buffer: int = 0) -> socket.socket:
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(30)
    client.connect((gateway.host, gateway.port))
    return client


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a thing of Linux")
def test_a_client_that_reads_nothing_is_given_up(gateway: GatewayClient) -> None:
    """Its connection and the rest of its answer would be kept for as long as it likes."""
    with connected(gateway, buffer=4_096) as client:
        client.setblocking(False)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100

        def given_up() -> bool:
            try:
                client.send(request)
            except BlockingIOError:
                return False
            except OSError:
                return True
            return False

        wait_until(given_up)
    assert gateway.ask("GET", "/healthz").status == 200


def head(path: str, length: int, *more: str) -> bytes:
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: x",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        *more,
    )
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@pytest.mark.parametrize(
    ("path", "length", "code"),
    [
        (f"{SEND}?access_token=nonsense", 1_000_000, "40014"),
        (SEND, 1_000_000, "40000"),
        ("/v1.0/todo/users/u/tasks", 1_000_000, "MissingParameter"),
        ("/robot/send?access_token=x", STRANGERS_LIMIT + 1, "460101"),
        ("/router/rest", STRANGERS_LIMIT + 1, '"errcode":400002,"errmsg":"参数错误: 请求体过大"'),
        ("/v1.0/oauth2/accessToken", STRANGERS_LIMIT + 1, '"code":"invalidParameter.tooLarge"'),
    ],
)
def test_strangers_bodies_expire(gateway: GatewayClient, path: str, length: int, code: str) -> None:
    """Without a key no client fills the memory."""
    with connected(gateway) as client:
        client.sendall(head(path, length))
        assert code.encode() in client.recv(65_536)


def test_a_body_of_a_megabyte_comes_with_a_token(gateway: GatewayClient) -> None:
    gateway.backend.keys.add("crm")
    token = token_of(asking(gateway.url), "drk_crm000000000", "secret")
    body = json.dumps({"userid_list": "u1", "msg": "x" * 900_000})
    reply = gateway.ask("POST", f"{SEND}?access_token={token}", body.encode())
    assert reply.json["errmsg"] == "缺少参数 agent_id"
