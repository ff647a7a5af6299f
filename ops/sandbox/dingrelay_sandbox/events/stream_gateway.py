"""Streams: the connections of apps with pings, frames and acknowledgements; what is sent again (API §7.4, §11.6)."""

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from aiohttp import WSMsgType, web
from pydantic import BaseModel

from dingrelay_sandbox.apps import App
from dingrelay_sandbox.events import frames
from dingrelay_sandbox.events.event import Event
from dingrelay_sandbox.events.event_faults import ConnectionFaultKind
from dingrelay_sandbox.events.log import Delivery
from dingrelay_sandbox.state import SandboxState

ConnectionState = Literal["open", "closing", "dead", "closed"]
REASON = "persistent connection is timeout"
"""DingTalk's reason for a disconnect."""


class StreamConnection:
    """A WebSocket of one app.

    Args:
        number: no other connection has it.
        ticket: what it was opened with.
        socket: the WebSocket, ready to be used.
        transport: what lies under it; None where it is gone already.
        sandbox: whose clock and times it follows.
        faults: what is wrong with it.

    Attributes:
        state: ``open``; ``closing`` once it got a disconnect; ``dead`` while it is gone and
            still fed; ``closed``.
        lossy: whether what is fed to it while it is dead is never sent again.
    """

    def __init__(
        self,
        number: int,
        ticket: frames.Ticket,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        sandbox: SandboxState,
        faults: set[ConnectionFaultKind],
    ) -> None:
        self.number = number
        self.app_key = ticket.app_key
        self.state: ConnectionState = "open"
        self.lossy = False
        self.faults = faults
        self._ticket = ticket
        self._socket = socket
        self._transport = transport
        self._sandbox = sandbox
        self._id = secrets.token_hex(8)
        self._opened_at = sandbox.clock()
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._opaque = ""
        self._sent = self._acknowledged = self._pings = self._pongs = 0

    def fed(self, event: Event) -> bool:
        """Whether an event is sent this way."""
        wanted = any(
            topic == event.type if event.is_callback else kind == frames.EVENTS
            for kind, topic in self._ticket.subscriptions
        )
        return wanted and self.state in {"open", "dead"}

    async def run(self) -> None:
        """Greet, ping and read until the connection ends."""
        await self._system("CONNECTED", {})
        if "no_registered" not in self.faults:
            await self._system("REGISTERED", {})
        pinging = asyncio.ensure_future(self._ping())
        try:
            await self._listen()
        finally:
            pinging.cancel()
            if self.state != "dead":
                self.state = "closed"
            self._lose()

    async def push(self, event: Event, app: App) -> str:
        """Send an event and wait for the answer: ``success``, or what went wrong."""
        if self.state == "dead":
            return "fed to a dead connection"
        message_id = self._message_id()
        self._sent += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[message_id] = answer
        frame = frames.event_frame(
            event, app, message_id=message_id, connection=self._id, at=self._sandbox.clock()
        )
        try:
            async with asyncio.timeout(self._sandbox.delivery_times.acknowledgement):
                if "deaf" not in self.faults:
                    await self._send(frame)
                return await answer
        except TimeoutError:
            return "no answer"
        finally:
            self._waiting.pop(message_id, None)

    async def disconnect(self) -> None:
        """Say that the connection ends, send no event any more, and close it some time later."""
        if self.state != "open":
            return
        self.state = "closing"
        await self._system(frames.DISCONNECT, {"reason": REASON})
        await asyncio.sleep(
            self._sandbox.delivery_times.scaled(self._sandbox.delivery_times.closing)
        )
        await self.close()

    def silence(self) -> None:
        """Send and hear nothing any more; TCP lives."""
        self.faults.add("silent")

    def drop(self) -> None:
        """End the connection without a word."""
        self.state = "closed"
        self._abort()

    async def die(self, *, lossy: bool) -> None:
        """End the connection without a word, and be fed for some time as if it were there."""
        self.state, self.lossy = "dead", lossy
        self._abort()
        await asyncio.sleep(
            self._sandbox.delivery_times.scaled(self._sandbox.delivery_times.dead_fed)
        )
        self.state = "closed"

    async def close(self) -> None:
        """End the connection in good order."""
        self.state = "closed"
        await self._socket.close()

    def report(self) -> dict[str, Any]:
        """The connection as JSON values; events and pings that were sent, and those that were answered."""
        return {
            "id": self.number,
            "app": self.app_key,
            "state": self.state,
            "opened_at": self._opened_at,
            "client": self._ticket.client,
            "subscriptions": [" ".join(each) for each in self._ticket.subscriptions],
            "faults": sorted(self.faults),
            "events": self._sent,
            "acknowledged": self._acknowledged,
            "pings": self._pings,
            "pongs": self._pongs,
        }

    @property
    def _silent(self) -> bool:
        return "silent" in self.faults

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            match message.type:
                case WSMsgType.TEXT:
                    self._read(message.data)
                case WSMsgType.PING if not self._silent:
                    await self._socket.pong(message.data)
                case WSMsgType.CLOSE if not self._silent:
                    await self._socket.close()
                    return
                case WSMsgType.CLOSED | WSMsgType.CLOSING | WSMsgType.ERROR:
                    return
                case _:
                    """Frames that mean nothing here, and all to a silent connection."""

    async def _ping(self) -> None:
        times = self._sandbox.delivery_times
        while True:
            await asyncio.sleep(times.scaled(times.ping))
            self._opaque = secrets.token_hex(8)
            self._pings += 1
            await self._system(frames.PING, {"opaque": self._opaque})

    async def _system(self, topic: str, data: dict[str, str]) -> None:
        frame = frames.system_frame(
            topic, data, message_id=self._message_id(), at=self._sandbox.clock()
        )
        await self._send(frame)

    async def _send(self, frame: str) -> None:
        if self._silent or self._socket.closed:
            return
        try:
            await self._socket.send_str(frame)
        except ConnectionError:
            self._lose()

    def _read(self, text: str) -> None:
        found = None if self._silent else frames.read_ack(text)
        if found is None:
            return
        message_id, worth, data = found
        if self._opaque and self._opaque in data:
            self._pongs += 1
            self._opaque = ""
        answer = self._waiting.get(message_id)
        if answer is not None and not answer.done():
            self._acknowledged += 1
            answer.set_result(worth)

    def _lose(self) -> None:
        """Whatever waits for an answer gets none."""
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result("connection lost")

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._lose()

    def _message_id(self) -> str:
        return f"{self._id}_{secrets.token_hex(6)}"


PATH = "/connect"
CLOSED_KEPT = 1_000
"""Connections that are over and are still reported."""
CLOSE_SECONDS = 1.0
"""How long a client may take to answer a close."""
LARGEST_FRAME = 1 << 20


class StreamAct(BaseModel, extra="forbid"):
    """An action on the open connections.

    Attributes:
        action: ``drop`` ends them without a word; ``disconnect`` says so first, sends no event any
            more and ends them later; ``silence`` leaves TCP alone, and nothing else; ``die`` drops
            them and feeds them on for a while.
        app: only those of this app.
        connection: only this one.
        lossy: whether what a dead connection was fed is never sent again.
    """

    action: Literal["drop", "disconnect", "silence", "die"]
    app: str | None = None
    connection: int | None = None
    lossy: bool = False


class StreamGateway:
    """All connections.

    Args:
        state: where tickets and times are.
        start: does something in the background that a reset ends.
    """

    def __init__(
        self, state: SandboxState, start: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._state = state
        self._start = start
        self._connections: list[StreamConnection] = []
        self._last = 0

    async def connect(self, request: web.Request) -> web.StreamResponse:
        """``GET /connect?ticket=``: the connection, until it ends."""
        ticket = self._state.tickets.take(request.query.get("ticket", ""), now=time.monotonic())
        if ticket is None:
            return web.json_response({"code": "authFailed", "message": "鉴权失败"}, status=401)
        socket = web.WebSocketResponse(
            autoping=False, autoclose=False, timeout=CLOSE_SECONDS, max_msg_size=LARGEST_FRAME
        )
        await socket.prepare(request)
        self._last += 1
        faults = self._state.event_faults.of_connection(ticket.app_key)
        connection = StreamConnection(
            self._last, ticket, socket, request.transport, self._state, faults
        )
        self._connections.append(connection)
        self._forget()
        await connection.run()
        return socket

    async def deliver(self, delivery: Delivery) -> None:
        """Send an event until it is acknowledged, or no more is tried."""
        state = self._state
        for _ in range(1 + state.delivery_times.redeliveries):
            at, began = state.clock(), time.monotonic()
            connection = self._pick(delivery)
            app = state.apps.get(delivery.app_key)
            outcome = "no connection"
            if connection is not None and app is not None:
                outcome = await connection.push(delivery.event, app)
            took = time.monotonic() - began
            number = connection.number if connection is not None else 0
            delivery.attempt(outcome, at=at, took=took, connection=number)
            if outcome == frames.SUCCESS:
                delivery.settle("delivered")
                return
            if connection is not None and connection.lossy:
                break
            wait = state.delivery_times.scaled(state.delivery_times.redelivery)
            await asyncio.sleep(began + wait - time.monotonic())
        delivery.settle("failed")

    def act(self, wanted: StreamAct) -> int:
        """Let something happen to connections; to how many it did."""
        met = [
            each
            for each in self._connections
            if each.state == "open"
            and wanted.app in {None, each.app_key}
            and wanted.connection in {None, each.number}
        ]
        for connection in met:
            match wanted.action:
                case "drop":
                    connection.drop()
                case "silence":
                    connection.silence()
                case "disconnect":
                    self._start(connection.disconnect())
                case "die":
                    self._start(connection.die(lossy=wanted.lossy))
        return len(met)

    def report(self) -> list[dict[str, Any]]:
        """All connections, those that are over included, oldest first."""
        return [each.report() for each in self._connections]

    def reset(self) -> None:
        """End all connections, and forget them."""
        for connection in self._connections:
            if connection.state in {"open", "closing"}:
                connection.drop()
        self._connections.clear()

    async def close(self) -> None:
        """End all connections in good order."""
        living = [each for each in self._connections if each.state in {"open", "closing"}]
        await asyncio.gather(*(each.close() for each in living), return_exceptions=True)

    def _pick(self, delivery: Delivery) -> StreamConnection | None:
        """Any one of an app's connections that takes the event."""
        fed = [
            each
            for each in self._connections
            if each.app_key == delivery.app_key and each.fed(delivery.event)
        ]
        return random.choice(fed) if fed else None

    def _forget(self) -> None:
        over = [each for each in self._connections if each.state == "closed"]
        for connection in over[:-CLOSED_KEPT]:
            self._connections.remove(connection)
