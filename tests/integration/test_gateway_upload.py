"""An upload that is much larger than the memory a gateway may take for it."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runner import Cli
from forms import CONTENT_TYPE, form
from gateways import gateway_process

PEOPLE = 60_000
PADDING = b"x" * 1_500
ROOM = 40_000
"""KiB: what is looked up while people are put on the stage has a cache of 12 MiB, and the body of
90 MB would show."""


@pytest.fixture
def gateway(variables: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Process id and port of a gateway in a process of its own."""
    with gateway_process(variables) as (process, port):
        yield process.pid, port


def highest(process: int) -> int:
    """KiB that a process has taken at most so far."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_upload_takes_no_memory(gateway: tuple[int, int], cli: Cli) -> None:
    process, port = gateway
    key = cli.json("key", "create", "crm", "--scope", "campaigns:write,campaigns:read")["key"]
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
    created = ask(_rows())
    assert (created["recipients"], created["planned"]) == (PEOPLE, PEOPLE // 100)
    assert highest(process) - before < ROOM


def _rows() -> Iterator[bytes]:
    yield b"userid,padding\n"
    for start in range(0, PEOPLE, 500):
        yield b"".join(b"u%06d,%b\n" % (number, PADDING) for number in range(start, start + 500))
