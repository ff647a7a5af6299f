"""Sends events through streams: to one connection of the app, again if it is not acknowledged."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from dingrelay_sandbox.events.frames import SUCCESS
from dingrelay_sandbox.events.log import Delivery
from dingrelay_sandbox.events.stream_connection import StreamConnection
from dingrelay_sandbox.state import SandboxState

PATH = "/connect"
CLOSED_KEPT = 1_000
"""Connections that are over and are still reported."""
CLOSE_SECONDS = 1.0
"""How long a client may take to answer a close."""
LARGEST_FRAME = 1 << 20


class StreamAct(BaseModel, extra="forbid"):
    """What happens to the connections that are open now.

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
            state.events.attempt(delivery, outcome, at=at, took=took, connection=number)
            if outcome == SUCCESS:
                state.events.settle(delivery, "delivered")
                return
            if connection is not None and connection.lossy:
                break
            wait = state.delivery_times.scaled(state.delivery_times.redelivery)
            await asyncio.sleep(began + wait - time.monotonic())
        state.events.settle(delivery, "failed")

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
