"""One request to an endpoint: where it goes, how long it takes, and what it leaves behind."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from dingrelay_producers.settings import Settings
from dingrelay_workers.webhooks.http import Sender
from receivers import Receiver, a_receiver, answering, hanging

PRODUCTION: dict[str, Any] = {
    "env": "production",
    "redis_url": "redis://redis:6379/0",
    "webhook_key": "k" * 32,
}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with a_receiver() as receiver:
        yield receiver


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    sender = Sender(Settings.load(env="test", call_timeout=5))
    yield sender
    await sender.close()


@pytest.fixture
async def production() -> AsyncIterator[Sender]:
    sender = Sender(Settings.load(**PRODUCTION, call_timeout=5))
    yield sender
    await sender.close()


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


async def test_only_allowed_addresses(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(Settings.load(**PRODUCTION, webhook_networks="127.0.0.1/32"))
    leads(monkeypatch, ["127.0.0.9", "127.0.0.1"])
    receipt = await sender.post(f"http://crm.example:{port_of(receiver)}/", b"{}", {})
    await sender.close()
    assert receipt.verdict == "taken"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
    ],
)
async def test_own_addresses_are_blocked(production: Sender, receiver: Receiver, host: str) -> None:
    receipt = await production.post(f"http://{host}:{port_of(receiver)}/", b"{}", {})
    assert receipt.verdict == "failed"
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


async def test_the_whole_takes_no_longer_than_the_time_out(receiver: Receiver) -> None:
    """Not even where the answer comes a byte at a time."""

    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    sender = Sender(Settings.load(env="test", call_timeout=0.4))
    async with await asyncio.start_server(drips, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        receipt = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        assert receipt.code == "timeout"
    receiver.behaves = hanging
    assert (await sender.post(receiver.url, b"{}", {})).code == "timeout"
    await sender.close()


async def test_a_body_that_never_ends_takes_nothing_from_the_verdict(receiver: Receiver) -> None:
    async def stalls(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(status=202)
        await answer.prepare(request)
        await answer.write(b"x")
        await asyncio.sleep(3_600)
        return answer

    receiver.behaves = stalls
    sender = Sender(Settings.load(env="test", call_timeout=0.4))
    receipt = await sender.post(receiver.url, b"{}", {})
    await sender.close()
    assert (receipt.verdict, receipt.status) == ("taken", 202)


async def test_a_connection_that_was_closed_meanwhile_is_no_failure(sender: Sender) -> None:
    requests = 0

    async def once_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")  # and keeps quiet of closing it
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(once_each, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        for _ in range(5):
            receipt = await sender.post(f"http://127.0.0.1:{port}/", b"", {})
            assert receipt.verdict == "taken"
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


async def test_slow_dns_delays_one(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = Sender(Settings.load(env="test", call_timeout=30))
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
    await sender.close()
