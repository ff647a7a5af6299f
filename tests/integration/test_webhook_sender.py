"""One request to an endpoint: where it goes, how long it takes, and what it leaves behind."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from dingrelay_producers.settings import Settings
from dingrelay_workers.webhooks.http import Sender
from support.webhooks import Receiver, a_receiver, answering, hanging

PRODUCTION: dict[str, Any] = {
    "env": "production",
    "redis_url": "redis://redis:6379/0",
    "webhook_key": "k" * 32,
}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


OpenSender = Callable[..., Sender]


@pytest.fixture
async def opened() -> AsyncIterator[OpenSender]:
    senders: list[Sender] = []

    def open_sender(**settings: Any) -> Sender:
        senders.append(Sender(Settings.load(**{"env": "test", "call_timeout": 5} | settings)))
        return senders[-1]

    yield open_sender
    for sender in senders:
        await sender.close()


@pytest.fixture
def sender(opened: OpenSender) -> Sender:
    return opened()


@pytest.fixture
def production(opened: OpenSender) -> Sender:
    return opened(**PRODUCTION)


@asynccontextmanager
async def server(
    handle: Callable[[asyncio.StreamWriter], Awaitable[object]],
) -> AsyncGenerator[str]:
    """The URL of a server that answers each request as `handle` writes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            await handle(writer)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1") as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def port_of(receiver: Receiver) -> int:
    return int(receiver.url.split(":")[2].partition("/")[0])


def leads(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names lead to these addresses, one list after the other; the names that were asked for."""
    hosts: list[str] = []
    real = socket.getaddrinfo
    coming = list(answers)

    def look_up(host: str, port: int, *options: Any, **named: Any) -> Any:
        hosts.append(host)
        addresses = coming.pop(0) if len(coming) > 1 else coming[0]
        return [found for address in addresses for found in real(address, port, *options, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return hosts


async def test_a_name_that_leads_inside_by_the_time_of_the_call_is_not_followed(
    production: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that checks first and connects then asks twice, and gets another address the second time."""
    hosts = leads(monkeypatch, ["127.0.0.1"])
    for _ in range(3):
        receipt = await production.post(f"http://crm.example:{port_of(receiver)}/", b"{}", {})
        assert (receipt.verdict, receipt.code) == ("failed", "address")
    assert hosts == ["crm.example"] * 3
    assert receiver.requests == []


async def test_only_allowed_addresses(
    opened: OpenSender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = opened(**PRODUCTION, webhook_networks="127.0.0.1/32")
    leads(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    receipt = await sender.post(f"http://crm.example:{port_of(receiver)}/", b"{}", {})
    assert receipt.verdict == "taken"


async def test_own_addresses_are_blocked(production: Sender, receiver: Receiver) -> None:
    for host in (
        *("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"),
        *("0.0.0.0", "127.1", "0x7f.1", "2130706433", "017700000001"),
    ):
        receipt = await production.post(f"http://{host}:{port_of(receiver)}/", b"{}", {})
        assert receipt.verdict == "failed", host
    assert receiver.requests == []


async def test_a_proxy_of_the_environment_is_not_asked(
    sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await sender.post(receiver.url, b"{}", {})).verdict == "taken"


async def test_an_invalid_certificate_is_refused(sender: Sender, receiver: Receiver) -> None:
    receipt = await sender.post(receiver.url.replace("http:", "https:"), b"{}", {})
    assert (receipt.verdict, receipt.code) == ("failed", "tls")
    assert receiver.requests == []


async def test_cookies_and_other_headers_are_not_sent(sender: Sender, receiver: Receiver) -> None:
    receiver.behaves = answering(200, headers={"Set-Cookie": "a=b; Path=/"})
    for _ in range(2):
        await sender.post(receiver.url, b"{}", {"webhook-id": "m"})
    names = {name.lower() for request in receiver.requests for name in request.headers}
    expected = {"host", "user-agent", "content-type", "content-length", "accept", "webhook-id"}
    assert names == expected


async def test_the_whole_takes_no_longer_than_the_time_out(
    opened: OpenSender, receiver: Receiver
) -> None:
    """Not even where the answer comes a byte at a time."""

    async def drips(writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)

    sender = opened(call_timeout=0.4)
    async with server(drips) as url:
        assert (await sender.post(url, b"{}", {})).code == "timeout"
    receiver.behaves = hanging
    assert (await sender.post(receiver.url, b"{}", {})).code == "timeout"


async def test_a_body_that_never_ends_takes_nothing_from_the_verdict(
    opened: OpenSender, receiver: Receiver
) -> None:
    async def stalls(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=202)
        await answer.prepare(request)
        await answer.write(b"x")
        await asyncio.sleep(3_600)
        return answer

    receiver.behaves = stalls
    receipt = await opened(call_timeout=0.4).post(receiver.url, b"{}", {})
    assert (receipt.verdict, receipt.status) == ("taken", 202)


async def test_ten_megabytes_are_no_answer_and_are_not_read(sender: Sender) -> None:
    written = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\nContent-Encoding: gzip\r\n\r\n"
        )
        for _ in range(1_000):
            writer.write(b"x" * 10_000)
            await writer.drain()
            written += 10_000

    async with server(endless) as url:
        assert (await sender.post(url, b"{}", {})).verdict == "taken"
    # What the sockets of both sides hold may be a few megabytes.
    assert 0 < written < 9_000_000


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"\x00\xff" * 4_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["another protocol", "no status", "bytes", "a header without end", "nothing"],
)
async def test_garbage_is_a_failure(sender: Sender, answer: bytes) -> None:
    async def garbage(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with server(garbage) as url:
        receipt = await sender.post(url, b"{}", {})
    assert receipt.verdict == "failed"
    assert receipt.code in {"no_http", "cut"}


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure(sender: Sender, receiver: Receiver, status: int) -> None:
    elsewhere = receiver.url.replace("/hook", "/elsewhere")
    receiver.behaves = answering(status, headers={"Location": elsewhere})
    receipt = await sender.post(receiver.url, b"{}", {})
    assert (receipt.verdict, receipt.code) == ("failed", f"http_{status}")
    assert [request.path for request in receiver.requests] == ["/hook"]


async def test_a_connection_that_was_closed_meanwhile_is_no_failure(sender: Sender) -> None:
    requests = 0

    async def once_each(writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # and keeps quiet of closing it
        await writer.drain()

    async with server(once_each) as url:
        for _ in range(5):
            assert (await sender.post(url, b"", {})).verdict == "taken"
    assert requests == 5


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("0", 0, 0),
        ("120", 120, 120),
        ("99999999999", 86_400, 86_400),
        ("-5", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
        ("date", 100, 121),
        ("past", 0, 0),
    ],
)
async def test_a_retry_after_is_read_in_both_forms(
    sender: Sender, receiver: Receiver, text: str, least: int, most: int
) -> None:
    moments = {"date": timedelta(minutes=2), "past": timedelta(minutes=-2)}
    if text in moments:
        text = format_datetime(datetime.now(UTC) + moments[text], usegmt=True)
    receiver.behaves = answering(503, headers={"Retry-After": text})
    receipt = await sender.post(receiver.url, b"{}", {})
    assert receipt.verdict == "failed"
    assert least <= receipt.retry_after.total_seconds() <= most


async def test_no_receipt_has_the_answer(sender: Sender, receiver: Receiver) -> None:
    receiver.behaves = answering(500, text="s3cret", reason="s3cret", headers={"X-Why": "s3cret"})
    assert "s3cret" not in repr(await sender.post(receiver.url, b"{}", {}))


async def test_slow_dns_delays_one(
    opened: OpenSender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = opened(call_timeout=30)
    free, hosts = threading.Event(), list[str]()
    real = socket.getaddrinfo

    def look_up(host: str, port: int, **options: Any) -> Any:
        hosts.append(host)
        if host != "sound.example":
            free.wait(30)
        return real("127.0.0.1", port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    port = port_of(receiver)
    hang = [
        asyncio.create_task(sender.post(f"http://hangs{number % 20}.example:{port}/", b"{}", {}))
        for number in range(80)
    ]
    receipt = await sender.post(f"http://sound.example:{port}/", b"{}", {})
    assert receipt.verdict == "taken"
    assert not any(task.done() for task in hang)
    free.set()
    assert {receipt.verdict for receipt in await asyncio.gather(*hang)} == {"taken"}
    assert len(hosts) == 21
