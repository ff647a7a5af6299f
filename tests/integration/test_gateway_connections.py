"""Clients that send nothing, read nothing, or send what they were not asked for; files that nothing takes on."""

import http.client
import json
import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from conftest import wait_until
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.media_files import LARGEST
from dingrelay_workers.gateway.drop_in import job_call, media
from dingrelay_workers.gateway.drop_in.door import STRANGERS_LIMIT
from dingrelay_workers.http import connection
from support.drop_in import SEND, asking, token_of
from support.gateways import GatewayClient, Reply, gateway_thread


@pytest.fixture
def gateway(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayClient]:
    monkeypatch.setattr(connection, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(job_call, "ANSWER_WITHIN", 0.05)
    settings = Settings.load(env="sandbox", redis_url=valkey_url, gateway_uploads=LARGEST)
    with gateway_thread(settings) as client:
        yield client


@pytest.fixture
def token(gateway: GatewayClient) -> str:
    gateway.backend.keys.add("crm")
    return token_of(asking(gateway.url), "drk_crm000000000", "secret")


def connected(gateway: GatewayClient, *, buffer: int = 0) -> socket.socket:
    client = socket.socket()
    if buffer:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    client.settimeout(30)
    client.connect((gateway.host, gateway.port))
    return client


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a thing of Linux")
def test_a_client_that_reads_nothing_is_given_up(gateway: GatewayClient) -> None:
    """The connection and the rest of its answer would be kept for as long as the client likes."""
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


def head(path: str, length: int) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def test_strangers_bodies_are_not_waited_for(gateway: GatewayClient) -> None:
    """Without a key no client fills the memory."""
    for path, length, code in (
        (f"{SEND}?access_token=nonsense", 1_000_000, "40014"),
        (SEND, 1_000_000, "40000"),
        ("/v1.0/todo/users/u/tasks", 1_000_000, "MissingParameter"),
        ("/robot/send?access_token=x", STRANGERS_LIMIT + 1, "460101"),
        ("/router/rest", STRANGERS_LIMIT + 1, '"errcode":400002,"errmsg":"参数错误: 请求体过大"'),
        ("/v1.0/oauth2/accessToken", STRANGERS_LIMIT + 1, '"code":"invalidParameter.tooLarge"'),
    ):
        with connected(gateway) as client:
            client.sendall(head(path, length))
            assert code.encode() in client.recv(65_536), path


def test_a_body_of_a_megabyte_comes_with_a_token(gateway: GatewayClient, token: str) -> None:
    body = json.dumps({"userid_list": "u1", "msg": "x" * 900_000})
    reply = gateway.ask("POST", f"{SEND}?access_token={token}", body.encode())
    assert reply.json["errmsg"] == "缺少参数 agent_id"


FORM = "multipart/form-data; boundary=b"
SIZE = 10_000_000


@pytest.fixture
def path(token: str) -> str:
    return f"/media/upload?type=file&access_token={token}"


def test_files_in_redis_are_bounded(gateway: GatewayClient, path: str, store: Redis) -> None:
    def upload(number: int) -> Reply:
        return gateway.ask("POST", path, bytes([number]) * SIZE, Content_Type=FORM)

    # A job has each of two; an equal file takes no more room.
    assert [upload(number).status for number in (1, 2, 1)] == [200, 200, 200]
    for number in (3, 4):
        full = upload(number)
        assert (full.status, full.json["errcode"]) == (503, -1)
        assert int(full.headers["Retry-After"]) > 0
    waiting = list(store.scan_iter(keys.upload("*")))
    assert (len(waiting), len(store.keys(keys.job("*")))) == (2, 2)
    assert sum(store.strlen(each) for each in waiting) <= LARGEST
    assert 0 < store.pttl(keys.UPLOADS) <= keys.UPLOAD_TTL_MS
    # As a worker does that has uploaded it.
    store.delete(waiting[0])
    assert upload(3).status == 200


def test_no_more_files_are_received_at_once_than_the_setting_allows(
    gateway: GatewayClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "TIMEOUT", 0.05)
    slow = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    slow.putrequest("POST", path)
    slow.putheader("Content-Type", FORM)
    slow.putheader("Content-Length", str(SIZE))
    slow.endheaders(b"the beginning")

    def upload() -> int:
        return gateway.ask("POST", path, b"a file", Content_Type=FORM).status

    wait_until(lambda: upload() == 503)
    monkeypatch.setattr(media, "TIMEOUT", 30)
    slow.close()
    assert upload() == 200


def test_redis_refusing_files(gateway: GatewayClient, path: str, store: Redis) -> None:
    """Such as a primary that has just become a replica, or one that is full."""
    store.config_set("maxmemory", 1)
    try:
        refused = gateway.ask("POST", path, b"a file", Content_Type=FORM)
    finally:
        store.config_set("maxmemory", 0)
    assert (refused.status, refused.json["errcode"]) == (200, -1)
    assert gateway.ask("POST", path, b"a file", Content_Type=FORM).status == 200
