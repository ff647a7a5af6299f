"""A stream gateway as DingTalk documents it (API §7.4), for tests of what listens to it."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from conftest import wait_until_async
from serving import serving


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
