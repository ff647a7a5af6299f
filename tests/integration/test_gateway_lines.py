"""JSON lines in one request that goes on and on: what is through leaves nothing behind."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator

import psutil
import pytest

from cli_runner import Cli
from dingrelay_workers.http.routes import NDJSON
from gateways import gateway_process

LINES = 60_000
SETTLED = 15_000
"""Lines after which the gateway has all the memory that it needs."""
ROOM = 4_500_000
"""Bytes that it may take beyond that, 100 a line. What it takes comes and goes by a million."""
ALIKE = 10
"""Lines in a row with the same text: jobs of their own would fill Redis, and show no more."""


@pytest.fixture
def gateway(variables: dict[str, str]) -> Iterator[tuple[psutil.Process, int]]:
    """A gateway in a process of its own, and its port."""
    with gateway_process(variables) as served:
        yield served


def pieces() -> Iterator[bytes]:
    """The body, each piece framed for HTTP."""
    for first in range(0, LINES, 500):
        piece = "".join(
            json.dumps(
                {
                    "to": {"users": [f"u{number}"]},
                    "message": {"msgtype": "text", "text": {"content": f"no {number // ALIKE}"}},
                }
            )
            + "\n"
            for number in range(first, first + 500)
        ).encode()
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@pytest.mark.timeout(240)
def test_a_long_stream_takes_no_memory(gateway: tuple[psutil.Process, int], cli: Cli) -> None:
    process, port = gateway
    key = cli.json("key", "create", "crm", "--scope", "messages:write")["key"]
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        sending = threading.Thread(target=lambda: [connection.sendall(each) for each in pieces()])
        sending.start()
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        accepted = settled = 0
        for line in answer:
            accepted += b'"id":' in line
            if accepted == SETTLED:
                settled = process.memory_info().rss
        grown = process.memory_info().rss - settled
        sending.join()
    assert accepted == LINES
    assert grown < ROOM
