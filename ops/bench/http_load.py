"""Asks HTTP servers for messages, each with a text of its own, and counts the answers.

A process of its own does so. It spells HTTP by hand, since a client library would take more of the
machine than the servers that are measured.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import count, cycle
from multiprocessing import get_context
from time import monotonic
from urllib.parse import urlsplit

import uvloop
from messages import user

HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
LINE = '{"to":{"users":["%s"]},"message":{"msgtype":"text","text":{"content":"text %s %d"}}}'


@dataclass(frozen=True, slots=True)
class Load:
    """The requests of a load.

    Attributes:
        urls: servers, asked in turn.
        key: an API key.
        name: part of each text, so that no two loads have one in common.
        connections: at once, kept alive.
        seconds: how long single messages are sent, one after the other on each connection.
        lines: jobs of one upload as JSON lines for each connection; 0 for single messages.
    """

    urls: Sequence[str]
    key: str
    name: str
    connections: int
    seconds: float = 0
    lines: int = 0


@dataclass(slots=True)
class Answers:
    """The result of a load: messages that were accepted and refused, in so many seconds."""

    seconds: float = 0
    accepted: int = 0
    refused: int = 0


def ask(load: Load) -> Answers:
    """Have another process ask."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(_ask, load).result()


def _ask(load: Load) -> Answers:
    return uvloop.run((uploads if load.lines else single_messages)(load))


class Connection(asyncio.Protocol):
    """One request after the other; each answer has a `Content-Length`."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Requests can be written."""
        self.transport = transport

    def ask(self, request: bytes) -> asyncio.Future[int]:
        """The status of the answer, once it is there whole."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Some of an answer."""
        self._received += data
        end = self._received.find(HEAD_END)
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end)
        if len(self._received) < end + len(HEAD_END) + (int(length[1]) if length else 0):
            return
        status = int(self._received[9:12])
        self._received.clear()
        self._answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server hung up"))


def head(load: Load, media_type: str, path: str, framing: str) -> str:
    """The head of a request."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {urlsplit(load.urls[0]).netloc}",
        f"Authorization: Bearer {load.key}",
        f"Content-Type: {media_type}",
        framing,
    ]
    return "\r\n".join(lines) + "\r\n\r\n"


def requests(load: Load) -> Iterator[bytes]:
    """Messages without end."""
    for number in count():
        body = LINE % (user(number), load.name, number)
        framing = f"Content-Length: {len(body)}"
        yield (head(load, "application/json", "/v1/messages", framing) + body).encode()


async def single_messages(load: Load) -> Answers:
    """Each connection asks again as soon as it has its answer."""
    loop, answers, messages = asyncio.get_running_loop(), Answers(), requests(load)
    connections: list[Connection] = []
    for _, url in zip(range(load.connections), cycle(map(urlsplit, load.urls)), strict=False):
        _, connection = await loop.create_connection(Connection, url.hostname, url.port)
        connections.append(connection)
    began = monotonic()

    async def go_on(connection: Connection) -> None:
        while monotonic() < began + load.seconds:
            accepted = await connection.ask(next(messages)) == 202
            answers.accepted += accepted
            answers.refused += not accepted

    await asyncio.gather(*map(go_on, connections))
    answers.seconds = monotonic() - began
    return answers


async def uploads(load: Load) -> Answers:
    """One upload of JSON lines on each connection, its answers read beside it."""
    bodies = [
        "\n".join(
            LINE % (user(number), f"{load.name} {upload}", number) for number in range(load.lines)
        ).encode()
        for upload in range(load.connections)
    ]
    answers = Answers()
    began = monotonic()

    async def upload(url: str, body: bytes) -> None:
        address = urlsplit(url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        framing = f"Content-Length: {len(body)}\r\nConnection: close"
        writer.write(head(load, "application/x-ndjson", "/v1/jobs", framing).encode())
        writer.write(body)
        while piece := await reader.read(1 << 18):
            answers.accepted += piece.count(b'"id":')
        writer.close()

    await asyncio.gather(*map(upload, cycle(load.urls), bodies))
    answers.seconds = monotonic() - began
    answers.refused = load.lines * load.connections - answers.accepted
    return answers
