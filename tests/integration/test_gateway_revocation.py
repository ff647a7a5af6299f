"""A key that ends while something of it is under way: it is refused there as well."""

import json
import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from conftest import wait_until
from dingrelay_producers.settings import Settings
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.http.routes import NDJSON
from support.drop_in import asking, token_of
from support.gateways import CONTENT_TYPE, GatewayClient, form, gateway_thread, stored_keys

MESSAGE = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}
DRAFT = {"name": "n", "message": MESSAGE["message"]}


@pytest.fixture
def gateway(settings: Settings) -> Iterator[GatewayClient]:
    """One whose keys are in memory."""
    with gateway_thread(settings) as client:
        yield client


class Stream:
    """A request whose body comes in chunks, whenever the test says so."""

    def __init__(self, gateway: GatewayClient, path: str, key: str, content_type: str) -> None:
        self._socket = socket.create_connection((gateway.host, gateway.port), timeout=30)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self._socket.sendall(head.encode())

    def send(self, piece: bytes) -> None:
        self._socket.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))

    def end(self) -> None:
        self._socket.sendall(b"0\r\n\r\n")

    def until(self, found: bytes) -> bytes:
        """The answer up to this."""
        answer = b""
        while found not in answer:
            piece = self._socket.recv(65_536)
            assert piece, answer
            answer += piece
        return answer

    def rest(self) -> bytes:
        """The answer until the connection is closed."""
        answer = b""
        while piece := self._socket.recv(65_536):
            answer += piece
        return answer

    def close(self) -> None:
        self._socket.close()


def test_a_revoked_stream_ends(gateway: GatewayClient, valkey_url: str) -> None:
    key = gateway.backend.keys.add("crm", "messages:write")
    stream = Stream(gateway, "/v1/jobs", key, NDJSON)
    line = json.dumps(MESSAGE).encode() + b"\n"
    stream.send(line)
    stream.until(b'"line":1,"id"')
    gateway.backend.keys.keys.clear()
    stream.send(line)
    assert b"urn:dingrelay:problem:unauthorized" in stream.rest()
    stream.close()
    with Redis.from_url(valkey_url) as redis:
        assert len(redis.keys("dingrelay:job:*")) == 1


def test_an_upload_of_a_revoked_key_makes_no_campaign(gateway: GatewayClient) -> None:
    """The file may take an hour."""
    key = gateway.backend.keys.add("crm", "campaigns:write")
    stream = Stream(gateway, "/v1/campaigns", key, CONTENT_TYPE)
    first, *others = form(DRAFT, recipients=iter([b"userid\nu1\n"]))
    stream.send(first)
    wait_until(lambda: "in_flight 1.0" in gateway.metrics())
    gateway.backend.keys.keys.clear()
    for piece in others:
        stream.send(piece)
    stream.end()
    assert b"HTTP/1.1 401" in stream.until(b"unauthorized")
    stream.close()


def test_a_token_ends_with_the_secret_behind_it(settings: Settings) -> None:
    grants = (Grant(name="all", scopes=frozenset({"*"})), Grant(name="crm", scopes=frozenset()))
    made = stored_keys(settings, grants)
    admin = made["all"]
    key_id, _, secret = made["crm"].partition(".")
    with gateway_thread(settings, Services(settings)) as gateway:
        ask = asking(gateway.url)

        def code(token: str) -> str:
            answer = ask("POST", "/topapi/v2/user/create", token=token, body={})[1]
            return str(answer["sub_code"])

        def rotate(overlap: str) -> str:
            path = f"/v1/keys/{key_id}/rotate"
            made = gateway.ask("POST", path, {"overlap": overlap}, key=admin).json
            return str(made["key"].partition(".")[2])

        first = token_of(ask, key_id, secret)
        assert code(first) == "60011"
        second = token_of(ask, key_id, rotate("1h"))
        assert (code(first), code(second)) == ("60011", "60011")
        third = token_of(ask, key_id, rotate("0s"))
        assert (code(first), code(second), code(third)) == ("40014", "40014", "60011")
