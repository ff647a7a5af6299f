"""Requests that are much larger than the memory a gateway may take for them."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dingrelay_workers.http.routes import NDJSON
from support.command_line import Cli
from support.gateways import CONTENT_TYPE, form, gateway_process

LINES = 60_000
SETTLED = 15_000
"""Lines after which the gateway has all the memory that it needs."""
ROOM_FOR_LINES = 4_500_000
"""Bytes that it may take beyond that, 100 a line. What it takes comes and goes by a million."""
ALIKE = 100
"""Lines in a row with the same text: jobs of their own would fill Redis, and show no more."""

PEOPLE = 20_000
PADDING = b"x" * 4_500
ROOM_FOR_FILE = 40_000_000
"""Bytes: what is looked up while people are put on the stage has a cache of 12 MiB, and the body of 90 MB would show."""


@pytest.fixture
def gateway(variables: dict[str, str]) -> Iterator[tuple[psutil.Process, int]]:
    """A gateway in a process of its own, and its port."""
    with gateway_process(variables) as served:
        yield served


@pytest.fixture
def key(gateway: object, cli: Cli) -> str:
    scopes = "messages:write,campaigns:write,campaigns:read"
    return str(cli.json("key", "create", "crm", "--scope", scopes)["key"])


def lines() -> Iterator[bytes]:
    """The body of a stream, each piece framed for HTTP."""
    for first in range(0, LINES, 500):
        jobs = [
            {
                "to": {"users": [f"u{number}"]},
                "message": {"msgtype": "text", "text": {"content": f"no {number // ALIKE}"}},
            }
            for number in range(first, first + 500)
        ]
        piece = "".join(json.dumps(job) + "\n" for job in jobs).encode()
        yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


@pytest.mark.timeout(240)
def test_a_long_stream_takes_no_memory(gateway: tuple[psutil.Process, int], key: str) -> None:
    process, port = gateway
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {NDJSON}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        sending = threading.Thread(target=lambda: [connection.sendall(each) for each in lines()])
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
    assert grown < ROOM_FOR_LINES


def highest(process: psutil.Process) -> int:
    """Bytes that a process has taken at most so far."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def people() -> Iterator[bytes]:
    yield b"userid,padding\n"
    for start in range(0, PEOPLE, 500):
        yield b"".join(b"u%06d,%b\n" % (number, PADDING) for number in range(start, start + 500))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_upload_takes_no_memory(gateway: tuple[psutil.Process, int], key: str) -> None:
    process, port = gateway
    headers = {"Authorization": f"Bearer {key}", "Content-Type": CONTENT_TYPE}
    draft = {"name": "n", "message": {"msgtype": "text", "text": {"content": "hi"}}}

    def ask(rows: Iterator[bytes]) -> dict[str, int]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
        body = form(draft, recipients=rows)
        connection.request("POST", "/v1/campaigns", body, headers, encode_chunked=True)
        answer = connection.getresponse()
        created: dict[str, int] = json.loads(answer.read())
        assert answer.status == 201, created
        connection.close()
        return created

    ask(iter([b"userid\nu1\n"]))  # what the first one loads, stays
    before = highest(process)
    created = ask(people())
    assert (created["recipients"], created["planned"]) == (PEOPLE, PEOPLE // 100)
    assert highest(process) - before < ROOM_FOR_FILE
