"""Requests that two programs on the way could read differently: refused, and nothing is done."""

import gzip
import json
import socket
from collections.abc import Iterator

import pytest
from redis import Redis

from dingrelay_producers.settings import Settings
from support.gateways import GatewayClient, body_seconds, gateway_thread

BODY = json.dumps(
    {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "MARK"}}}
).encode()
SECRET = "drk_crm000000000.secret"


@pytest.fixture(scope="module")
def served(shared_url: str) -> Iterator[GatewayClient]:
    settings = Settings.load(env="sandbox", redis_url=shared_url)
    with body_seconds(0.5), gateway_thread(settings) as client:
        client.backend.keys.add("crm")
        yield client


def raw(gateway: GatewayClient, head: str, body: bytes = b"") -> bytes:
    """The answer to a request that is written as it is; empty if the connection was closed."""
    with socket.create_connection((gateway.host, gateway.port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        answer = b""
        try:
            while piece := connection.recv(65_536):
                answer += piece
        except ConnectionError:
            pass
        return answer


def head(*lines: str, target: str = "/v1/messages", length: int = len(BODY)) -> str:
    sent = [
        f"POST {target} HTTP/1.1",
        "Host: gateway",
        "Connection: close",
        f"Authorization: Bearer {SECRET}",
        "Content-Type: application/json",
    ]
    if length >= 0:
        sent.append(f"Content-Length: {length}")
    return "\n".join([*sent, *lines])


BOMB = gzip.compress(b" " * 50_000_000, 1)

CASES = {
    "two lengths": (head("Content-Length: 3"), BODY),
    "length and chunked": (head("Transfer-Encoding: chunked"), b"0\r\n\r\n"),
    "chunked twice": (head("Transfer-Encoding: chunked, chunked", length=-1), b"0\r\n\r\n"),
    "odd transfer coding": (head("Transfer-Encoding: xchunked", length=-1), b"0\r\n\r\n"),
    "bad chunk": (head("Transfer-Encoding: chunked", length=-1), b"zz\r\n{}\r\n0\r\n\r\n"),
    "negative length": (head("Content-Length: -5", length=-1), BODY),
    "plus length": (head("Content-Length: +5", length=-1), BODY),
    "two authorizations": (head("Authorization: Bearer other"), BODY),
    "two types": (head("Content-Type: text/plain"), BODY),
    "two hosts": (head("Host: other"), BODY),
    "two keys": (head("Idempotency-Key: a", "Idempotency-Key: b"), BODY),
    "absolute form": (head(target="http://evil.example/v1/messages"), BODY),
    "absolute form with user": (head(target="http://a:b@gateway/v1/messages"), BODY),
    "double slash": (head(target="//v1/messages"), BODY),
    "dots": (head(target="/v1/x/../messages"), BODY),
    "escaped dots": (head(target="/v1/x/%2e%2E/messages"), BODY),
    "escaped slash": (head(target="/v1%2fmessages"), BODY),
    "backslash": (head(target="/v1\\messages"), BODY),
    "authority": (head(target="evil.example:80"), BODY),
    "asterisk": (head(target="*"), BODY),
    "null": (head(target="/v1/messages%00"), BODY),
    "blank in target": (head(target="/v1/messages x"), BODY),
    "folded header": (head("X-A: b\n c"), BODY),
    "bare line feed": (head("X-A: b\x00c"), BODY),
    "blank before colon": (head("X-A : b"), BODY),
    "compressed": (head("Content-Encoding: gzip", length=len(BOMB)), BOMB),
    "compressed bomb in a stream": (
        head("Content-Encoding: gzip", target="/v1/jobs", length=len(BOMB)),
        BOMB,
    ),
    "too large": (head(length=2_000_000), b" " * 2_000_000),
    "too large in chunks": (
        head("Transfer-Encoding: chunked", length=-1),
        b"1e8480\r\n" + b" " * 2_000_000 + b"\r\n0\r\n\r\n",
    ),
    "short": (head(length=len(BODY) + 10), BODY),
    "many headers": (head(*[f"X-{number}: 1" for number in range(2_000)]), BODY),
    "long header": (head("X-A: " + "a" * 100_000), BODY),
    "long target": (head(target="/v1/messages?" + "a" * 100_000), BODY),
    "no http": ("\x16\x03\x01\x02\x00\x01", b"MARK"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_and_nothing_is_done_or_quoted(
    name: str, served: GatewayClient, valkey_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = raw(served, *CASES[name])
    if answer:
        status = int(answer.split(b" ", 2)[1])
        assert 400 <= status < 500, answer[:300]
        assert b"application/problem+json" in answer
    for secret in (b"MARK", SECRET.encode(), b"evil", b"a" * 40):
        assert secret not in answer
    with Redis.from_url(valkey_url) as redis:
        assert redis.keys("dingrelay:job:*") == []
    printed = "".join(capfd.readouterr())
    for secret in ("MARK", SECRET, "evil", "a" * 40, "Traceback"):
        assert secret not in printed


def test_the_same_request_without_tricks_is_taken(served: GatewayClient, valkey_url: str) -> None:
    assert raw(served, head(), BODY).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize(
    ("target", "member"),
    [
        ("//gettoken", "errcode"),
        ("//topapi/x", "errcode"),
        ("/../topapi/x", "errcode"),
        ("/topapi/../gettoken", "errcode"),
        ("/topapi/v2%2Fuser%2Fget", "errcode"),
        ("/v1.0/todo/../x", "code"),
    ],
)
def test_an_odd_target_of_dingtalks_is_refused_in_its_shape(
    target: str, member: str, served: GatewayClient
) -> None:
    answer = raw(served, head(target=target), BODY)
    assert b"Content-Type: application/json" in answer
    refusal = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert refusal[member] == {"errcode": 400_002, "code": "invalidParameter"}[member]


def test_a_request_that_is_no_http_is_refused_in_all_shapes(served: GatewayClient) -> None:
    answer = raw(served, head("Content-Type: text/plain", target="/topapi/v2/user/get"), BODY)
    refusal = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert refusal["type"] == "urn:dingrelay:problem:malformed-request"
    assert (refusal["errcode"], refusal["code"]) == (400_002, "invalidParameter")


@pytest.mark.parametrize("sent", [0, 5])
def test_a_slow_body_is_not_waited_for(served: GatewayClient, valkey_url: str, sent: int) -> None:
    answer = raw(served, head(), BODY[:sent])
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_stream_gets_what_was_taken(served: GatewayClient, valkey_url: str) -> None:
    lines = head(target="/v1/jobs").replace("application/json", "application/x-ndjson")
    lines = lines.replace(f"Content-Length: {len(BODY)}", "Content-Length: 100000")
    answer = raw(served, lines, BODY + b"\n" + BODY[:10])
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'{"line":1,"id":"' in answer
    assert b'"status":408' in answer


def test_the_client_gets_100_continue(served: GatewayClient, valkey_url: str) -> None:
    answer = raw(served, head("Expect: 100-continue"), BODY)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


def test_a_callers_request_id_is_kept_if_loggable(served: GatewayClient, valkey_url: str) -> None:
    assert served.ask("GET", "/healthz", X_Request_Id="a-1").headers["X-Request-Id"] == "a-1"
    odd = served.ask("GET", "/healthz", X_Request_Id="a b\tc")
    assert odd.headers["X-Request-Id"] not in {"a b\tc", ""}


def test_a_scraper_of_the_wrong_port_gets_the_right_one(served: GatewayClient) -> None:
    reply = served.ask("GET", "/metrics")
    assert (reply.status, reply.json["type"]) == (404, "urn:dingrelay:problem:not-found")
    assert "DINGRELAY_METRICS_PORT" in reply.json["detail"]
