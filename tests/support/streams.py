"""DingTalk's Stream (API §7.4): a server that a test directs, and a bare client of the sandbox's."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from conftest import wait_until_async
from support.serving import serving


@dataclass(eq=False)
class Client:
    """A connection of a listener, as the server sees it."""

    socket: web.WebSocketResponse
    transport: asyncio.Transport
    answers: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    closed_with: int | None = None
    pinged: int = 0

    async def send(self, kind: str, headers: dict[str, str], data: Any, **frame: Any) -> str:
        """A frame; the id of its message."""
        message_id = secrets.token_hex(8)
        message = {
            "specVersion": "1.0",
            "type": kind,
            "headers": {"messageId": message_id, "contentType": "application/json", **headers},
            "data": data if isinstance(data, str) else json.dumps(data),
            **frame,
        }
        await self.socket.send_str(json.dumps(message))
        return message_id

    async def event(self, event_id: str, event_type: str = "chat_disband", **data: Any) -> str:
        headers = {
            "topic": "*",
            "eventType": event_type,
            "eventId": event_id,
            "eventCorpId": "dingcorp",
            "eventBornTime": "1795632928459",
            "eventUnifiedAppId": "unified",
        }
        return await self.send("EVENT", headers, data)

    async def system(self, topic: str, data: Any) -> str:
        return await self.send("SYSTEM", {"topic": topic}, data)

    async def answer(self, message_id: str) -> dict[str, Any]:
        """The answer to a message, once there is one."""

        await wait_until_async(
            lambda: any(each["headers"]["messageId"] == message_id for each in self.answers),
            what="an answer",
        )
        [found] = [each for each in self.answers if each["headers"]["messageId"] == message_id]
        return found

    async def status(self, message_id: str) -> str:
        """The status in the answer to an event."""
        answer = await self.answer(message_id)
        assert answer["code"] == 200
        status: str = json.loads(answer["data"])["status"]
        return status


class StreamServer:
    """Gives tickets and takes connections.

    Attributes:
        refuses: an answer instead of a ticket: status and body.
        shuts: whether a connection is closed as soon as it is open.
        deaf: whether nothing is answered, not even pings of the protocol below.
        greets: whether it says something at first.
    """

    def __init__(self) -> None:
        self.url = ""
        self.opened: list[dict[str, Any]] = []
        self.opened_at: list[float] = []
        self.clients: list[Client] = []
        self.tickets: set[str] = set()
        self.refused_tickets = 0
        self.refuses: tuple[int, Any] | None = None
        self.endpoint = ""
        self.shuts = False
        self.deaf = False
        self.greets = True

    @property
    def open(self) -> list[Client]:
        return [each for each in self.clients if each.closed_with is None]

    async def client(self, number: int) -> Client:
        """The connection of this number, from 1 on, once it is there."""

        await wait_until_async(lambda: len(self.clients) >= number, what=f"connection {number}")
        return self.clients[number - 1]

    async def _ticket(self, request: web.Request) -> web.Response:
        self.opened.append(await request.json())
        self.opened_at.append(time.monotonic())
        if self.refuses:
            status, body = self.refuses
            return web.Response(
                status=status, text=body if isinstance(body, str) else json.dumps(body)
            )
        ticket = secrets.token_hex(8)
        self.tickets.add(ticket)
        endpoint = self.endpoint or self.url.replace("http", "ws") + "/connect"
        return web.json_response({"endpoint": endpoint, "ticket": ticket})

    async def _connect(self, request: web.Request) -> web.StreamResponse:
        ticket = request.query.get("ticket", "")
        if ticket not in self.tickets:
            self.refused_tickets += 1
            return web.Response(status=401)
        self.tickets.discard(ticket)
        socket = web.WebSocketResponse(autoping=False, autoclose=False, timeout=0.5)
        await socket.prepare(request)
        assert isinstance(request.transport, asyncio.Transport)
        client = Client(socket, request.transport)
        self.clients.append(client)
        if self.greets:
            await client.system("CONNECTED", {})
        if self.shuts:
            await socket.close()
        try:
            await self._listen(client)
        finally:
            client.closed_with = socket.close_code or 1006
        return socket

    async def _listen(self, client: Client) -> None:
        while True:
            message = await client.socket.receive()
            match message.type:
                case WSMsgType.TEXT:
                    client.answers.append(json.loads(message.data))
                case WSMsgType.PING:
                    client.pinged += 1
                    if not self.deaf:
                        await client.socket.pong(message.data)
                case WSMsgType.CLOSE:
                    await client.socket.close()
                    return
                case _:
                    if client.socket.closed or message.type in {WSMsgType.CLOSED, WSMsgType.ERROR}:
                        return


@asynccontextmanager
async def stream_server() -> AsyncIterator[StreamServer]:
    """A server on a port of its own."""
    server = StreamServer()
    app = web.Application()
    app.router.add_post("/v1.0/gateway/connections/open", server._ticket)
    app.router.add_get("/connect", server._connect)
    async with serving(app, cancels=False) as server.url:
        yield server


OPEN = "/v1.0/gateway/connections/open"
EVERYTHING = [{"type": "EVENT", "topic": "*"}]


@dataclass
class Connection:
    """One WebSocket; its frames are read in the background.

    Attributes:
        worth: what an event is acknowledged with, ``code`` and ``data``; None: it is not.
        frames: all that came.
        closed: set when the connection is over.
    """

    socket: aiohttp.ClientWebSocketResponse
    worth: tuple[int, str] | None = (200, '{"status": "SUCCESS", "message": "success"}')
    frames: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def of(self, kind: str, topic: str = "") -> list[dict[str, Any]]:
        """The frames of a type, and of a topic."""
        return [
            frame
            for frame in self.frames
            if frame["type"] == kind and topic in {"", frame["headers"]["topic"]}
        ]

    @property
    def events(self) -> list[str]:
        """The ids of the events that came."""
        return [frame["headers"]["eventId"] for frame in self.of("EVENT")]

    async def read(self) -> None:
        """Collect frames until the connection is over."""
        try:
            async for message in self.socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    frame = json.loads(message.data)
                    self.frames.append(frame)
                    await self._answer(frame)
        except ConnectionError:
            pass
        finally:
            self.closed.set()

    async def acknowledge(self, message_id: str, code: int, data: str) -> None:
        """Answer a frame."""
        headers = {"messageId": message_id, "contentType": "application/json"}
        answer = {"code": code, "headers": headers, "message": "OK", "data": data}
        await self.socket.send_str(json.dumps(answer))

    async def _answer(self, frame: dict[str, Any]) -> None:
        message_id = frame["headers"]["messageId"]
        if frame["type"] == "EVENT" and self.worth is not None:
            await self.acknowledge(message_id, *self.worth)
        elif frame["headers"]["topic"] == "ping":
            await self.acknowledge(message_id, 200, frame["data"])


class StreamClient:
    """An application that listens to a stream.

    Args:
        base_url: of the sandbox.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._session = aiohttp.ClientSession()
        self._readers: list[asyncio.Task[None]] = []

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def ask(self, **fields: Any) -> tuple[int, dict[str, Any]]:
        """Ask for a ticket: the status and the answer."""
        wanted = {
            "clientId": "sandbox-key",
            "clientSecret": "sandbox-secret",
            "subscriptions": EVERYTHING,
            "ua": "test",
            "localIp": "127.0.0.1",
            **fields,
        }
        headers = {"Accept": "application/json"}
        async with self._session.post(
            f"{self._base_url}{OPEN}", json=wanted, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def use(self, endpoint: str, ticket: str) -> Connection:
        """Open a connection with a ticket."""
        socket = await self._session.ws_connect(f"{endpoint}?ticket={ticket}")
        connection = Connection(socket)
        self._readers.append(asyncio.ensure_future(connection.read()))
        return connection

    async def open(self, **fields: Any) -> Connection:
        """Ask for a ticket and open a connection."""
        status, answer = await self.ask(**fields)
        assert status == 200, answer
        return await self.use(answer["endpoint"], answer["ticket"])
