"""A DingTalk on plain sockets: it answers in ways in which no HTTP library would.

Each call is carried out first. What then comes back is drawn from `MANNERS`.
"""

import asyncio
import gzip
import json
import random
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

Piece = bytes | Literal["close", "reset", "hang"]
"""A piece of an answer, or its end; a connection without an end is kept."""

TOKEN = "the-token-of-the-app"
SEND = "/topapi/message/corpconversation/asyncsend_v2"
APPROVALS = "/v1.0/workflow/processInstances"
LIST = "/v1.0/workflow/processes/instanceIds/query"
LARGE = 11 * 2**20
BOMB = gzip.compress(b" " * LARGE, 1)
ANOTHERS = {"errcode": 0, "task_id": 666, "instanceId": "another's", "access_token": "another's"}
"""An answer that belongs to no call."""


BELOW: Mapping[int, Sequence[int | str]] = {1: [2, "3", 2], 2: [4], 3: [], 4: [2, 1, "4"]}
"""Departments, which lead in a circle, and come twice and as texts."""
PEOPLE: Mapping[int, Sequence[Sequence[str]]] = {
    1: [["a", "b"], [], ["b"]],
    2: [["a"], ["c"]],
    3: [[]],
    4: [["d", "d"], ["d"]],
}
"""The pages of each one's people, who come on several, and in several departments."""


@dataclass(frozen=True)
class Asked:
    """A request as it came.

    Attributes:
        query: each parameter once.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body) if self.body else {}


def http(
    body: bytes, status: str = "200 OK", *headers: str, date: str = "", length: int | None = None
) -> bytes:
    """A whole answer."""
    stated = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {stated}", "Content-Type: application/json"]
    lines += [*headers, *([f"Date: {date}"] if date else [])]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, *, end: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[start : start + 7] for start in range(0, len(body), 7)]
    written = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + written + end


def html(status: str, *headers: str) -> Callable[[bytes, str], list[Piece]]:
    return lambda _, date: [http(b"<html>log in</html>", status, *headers, date=date)]


def text(status: str, words: bytes = b"no") -> Callable[[bytes, str], list[Piece]]:
    return lambda _, date: [http(words, status, date=date)]


def with_fields(**fields: Any) -> Callable[[bytes, str], list[Piece]]:
    """The answer with other fields; None takes one away."""

    def answer(body: bytes, date: str) -> list[Piece]:
        content = json.loads(body) | fields
        kept = {name: value for name, value in content.items() if value is not None}
        return [http(json.dumps(kept).encode(), date=date)]

    return answer


def with_an_odd_id(body: bytes, date: str) -> list[Piece]:
    """The answer with an approval's id that no job could name."""
    content = json.loads(body)
    if "instanceId" in content:
        content["instanceId"] += " "
    return [http(json.dumps(content).encode(), date=date)]


SANE: Mapping[str, Callable[[bytes, str], list[Piece]]] = {
    "as usual": lambda body, date: [http(body, date=date)],
    "byte by byte": lambda body, date: [bytes([each]) for each in http(body, date=date)],
    "in chunks": lambda body, date: [chunked(body)],
    "in two megabytes": lambda body, date: [http(body + b" " * 2**21, date=date)],
    "after 100 and 103": lambda body, date: [
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + b"HTTP/1.1 103 Early Hints\r\n\r\n",
        http(body, date=date),
    ],
    "as HTTP/1.0": lambda body, date: [b"HTTP/1.0 200 OK\r\n\r\n" + body, "close"],
    "compressed": lambda body, date: [
        http(gzip.compress(body), "200 OK", "Content-Encoding: gzip")
    ],
    "with a BOM": lambda body, date: [http(b"\xef\xbb\xbf" + body, date=date)],
    "in UTF-16": lambda body, date: [http(body.decode().encode("utf-16"), date=date)],
    "twice": lambda body, date: [http(body, date=date) + http(json.dumps(ANOTHERS).encode())],
    "with an odd id": with_an_odd_id,
    "with NaN": lambda body, date: [http(body[:-1] + b', "x": NaN, "y": 1e999}', date=date)],
}
"""Ways in which an answer is odd and can be read."""

LOST: Mapping[str, Callable[[bytes, str], list[Piece]]] = {
    "cut in the body": lambda body, date: [http(body, date=date)[:-3], "close"],
    "cut in the body, and silence": lambda body, date: [http(body, date=date)[:-3], "hang"],
    "cut in a chunk": lambda body, date: [chunked(body)[:-9], "close"],
    "chunks without end": lambda body, date: [chunked(body, end=b""), "hang"],
    "cut without a length": lambda body, date: [b"HTTP/1.0 200 OK\r\n\r\n" + body[:-3], "close"],
    "nothing": lambda body, date: ["close"],
    "a reset": lambda body, date: ["reset"],
    "silence": lambda body, date: ["hang"],
    "no gzip": lambda body, date: [http(body, "200 OK", "Content-Encoding: gzip", date=date)],
    "half a gzip": lambda body, date: [
        http(gzip.compress(body)[:-20], "200 OK", "Content-Encoding: gzip", date=date)
    ],
    "an encoding of its own": lambda body, date: [
        http(b"\x8b\x02\x80", "200 OK", "Content-Encoding: br", date=date)
    ],
    "a bomb": lambda body, date: [http(BOMB, "200 OK", "Content-Encoding: gzip", date=date)],
    "too much": lambda body, date: [http(b" " * LARGE, date=date)],
    "a portal": html("200 OK"),
    "a gateway": html("504 Gateway Timeout"),
    "moved": html("302 Found", "Location: {elsewhere}"),
    "moved for good": html("308 Permanent Redirect", "Location: {elsewhere}"),
    "moved without a word": lambda body, date: [
        http(b"", "307 Temporary Redirect", "Location: {elsewhere}", date=date)
    ],
    "no content": lambda body, date: [b"HTTP/1.1 204 No Content\r\n\r\n"],
    "an empty body": lambda body, date: [http(b"", date=date)],
    "no route": text("404 Not Found", b"404 page not found\n"),
    "no backend": text("503 Service Unavailable", b"no healthy upstream"),
    "a proxy's word": text("407 Proxy Authentication Required", b"Access denied"),
    "a policy": text("403 Forbidden", "策略禁止".encode()),
    "two lengths": lambda body, date: [http(body, "200 OK", "Content-Length: 5", date=date)],
    "no HTTP": lambda body, date: [b"\x16\x03\x01\x02\x00\r\n\r\n", "close"],
    "a header without end": lambda body, date: [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        "close",
    ],
    "another protocol": lambda body, date: [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        "close",
    ],
    "in GBK": lambda body, date: [http(body[:-1] + ', "m": "成功"}'.encode("gbk"), date=date)],
    "half a code": with_fields(errcode=""),
    "no code": with_fields(errcode=None, instanceId=None, access_token=None, result=None),
    "a flag for a code": with_fields(errcode=False, instanceId=None, access_token=None, result=0),
    "no id": with_fields(task_id=None, instanceId=None, access_token=None, result=None),
    "an endless id": with_fields(task_id=2**64, instanceId="", access_token="", result=[]),
}
"""Ways in which an answer can't be read, so that the call may have been carried out or not."""

MANNERS = {**SANE, **LOST}

DATES: Sequence[Callable[[], str]] = (
    lambda: format_datetime(datetime.now(UTC), usegmt=True),
    lambda: "",
    lambda: "yesterday",
    lambda: "Thu, 01 Jan 99999999999999999999 00:00:00 GMT",
    lambda: "Thu, 01 Jan 2026 00:00:00 +9999999999999999",
)
"""Values of an answer's ``Date``."""


@dataclass
class RawDingTalk:
    """A DingTalk with raw answers, which records the requests.

    Attributes:
        manner: the name of how a call is answered.
        date: the ``Date`` of what it answers.
        sent: the people who have each content, once for each call.
        approvals: id → the form, the originator and the time.
        changed: method and path of calls that change something else.
        elsewhere: where redirects lead to.
    """

    manner: Callable[[Asked], str] = lambda _: "as usual"
    date: Callable[[], str] = DATES[0]
    elsewhere: str = ""
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    sent: Counter[tuple[str, str]] = field(default_factory=Counter)
    approvals: dict[str, dict[str, Any]] = field(default_factory=dict)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def calls(self, path: str) -> int:
        return sum(asked.path == path for asked in self.asked)

    def _done(self, asked: Asked) -> dict[str, Any]:
        """Carry out a call; the answer."""
        match asked.method, asked.path:
            case _, "/gettoken":
                return {"errcode": 0, "access_token": TOKEN, "expires_in": 7200}
            case _, path if path == SEND:
                content = asked.json["msg"]["text"]["content"]
                self.sent.update((content, user) for user in asked.json["userid_list"].split(","))
                return {"errcode": 0, "task_id": len(self.asked)}
            case "POST", path if path == APPROVALS:
                made = f"i{len(self.approvals)}"
                self.approvals[made] = {**asked.json, "at": time.time() * 1000}
                return {"instanceId": made}
            case "GET", path if path == APPROVALS:
                return {"result": self._told(self.approvals[asked.query["processInstanceId"]])}
            case _, path if path == LIST:
                since = asked.json["startTime"]
                listed = [id_ for id_, made in self.approvals.items() if made["at"] >= since]
                return {"result": {"list": listed}}
            case _, path if path.startswith("/topapi/v2/"):
                return {"errcode": 0, "result": _contacts(path, asked.json)}
            case method, path:
                self.changed[method, path] += 1
                return {"errcode": 0, "result": {"items": []}}

    def _told(self, made: Mapping[str, Any]) -> dict[str, Any]:
        form = [{"componentType": "TextField", **each} for each in made["formComponentValues"]]
        return {"originatorUserId": made["originatorUserId"], "formComponentValues": form}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while asked := await _request(reader):
                self.asked.append(asked)
                body = json.dumps(self._done(asked)).encode()
                pieces = MANNERS[self.manner(asked)](body, self.date())
                if not await self._answer(pieces, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, pieces: Sequence[Piece], writer: asyncio.StreamWriter) -> bool:
        """Whether the connection goes on."""
        for piece in pieces:
            match piece:
                case "close":
                    return False
                case "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, linger)
                    return False
                case "hang":
                    await asyncio.Event().wait()
                case bytes():
                    writer.write(piece.replace(b"{elsewhere}", self.elsewhere.encode()))
                    await writer.drain()
                    # The client has what was written before the next piece comes.
                    await asyncio.sleep(0)
        return True


def _contacts(path: str, asked: Mapping[str, Any]) -> Any:
    """The answer to a call of departments and people."""
    department = asked.get("dept_id", 0)
    match path.rpartition("v2/")[2]:
        case "department/get":
            return {"dept_id": str(department), "name": "部门"}
        case "department/listsub":
            return [{"dept_id": each, "parent_id": department} for each in BELOW[department]]
        case "user/list":
            page, pages = asked["cursor"], PEOPLE[department]
            more = page + 1 < len(pages)
            people = [{"userid": each, "name": each} for each in pages[page]]
            place = {"next_cursor": str(page + 1)} if more else {}
            return {"has_more": str(more).lower(), "list": people, **place}
        case _:
            return {"userid": asked.get("userid", "u1")}


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    return Asked(method, parts.path, query, headers, body)


@asynccontextmanager
async def raw_dingtalk() -> AsyncIterator[RawDingTalk]:
    """The server, on a port of its own."""
    dingtalk = RawDingTalk()
    serving: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(dingtalk.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    dingtalk.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield dingtalk
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


def odd_at_first(seed: int, count: int, manners: Iterable[str] = MANNERS) -> Callable[[Asked], str]:
    """Draws the manner of so many answers, and is as usual afterwards."""
    draw, names = random.Random(seed), sorted(manners)
    left = count

    def manner(_: Asked) -> str:
        nonlocal left
        left -= 1
        return draw.choice(names) if left >= 0 else "as usual"

    return manner
