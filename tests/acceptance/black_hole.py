"""A TCP proxy whose open connections can be made to go silent without closing."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self, cast


class Wire:
    """One connection through the proxy: its two ends, and whether it still carries anything."""

    def __init__(self, hole: "BlackHole") -> None:
        self.hole = hole
        self.silent = False
        self.ends: list[asyncio.Transport] = []

    @property
    def open(self) -> bool:
        return bool(self.ends) and not any(end.is_closing() for end in self.ends)


class End(asyncio.Protocol):
    """One side of a wire: what arrives here leaves at the other, its end included."""

    def __init__(
        self, wire: Wire, on_made: Callable[[asyncio.Transport], None] | None = None
    ) -> None:
        self._wire = wire
        self._on_made = on_made
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._wire.ends.append(self._transport)
        if self._on_made:
            self._on_made(self._transport)

    def data_received(self, data: bytes) -> None:
        hole, answers = self._wire.hole, self._on_made is None
        if self._wire.silent and not answers:
            hole.unanswered += len(data)
        if self._wire.silent or (answers and hole.mute):
            return
        for other in self._others():
            other.write(data)
        if answers and hole.last_answer and hole.last_answer in data:
            hole.mute = True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._wire.silent:
            for other in self._others():
                other.close()

    def _others(self) -> list[asyncio.Transport]:
        return [end for end in self._wire.ends if end is not self._transport]


class BlackHole:
    """Forwards connections to a local port, from a thread of its own.

    What is swallowed stays open on both sides and forwards nothing any more, as when a firewall
    forgets a connection. New connections are forwarded.

    Attributes:
        port: where it listens.
        unanswered: bytes that came over connections after they had gone silent.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.unanswered = 0
        self.mute = False
        self.last_answer = b""
        self._target = target
        self._wires: list[Wire] = []
        self._connecting: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def swallow(self) -> int:
        """Let every connection that is open now go silent; how many there were."""
        swallowed = [wire for wire in list(self._wires) if wire.open and not wire.silent]
        for wire in swallowed:
            wire.silent = True
        return len(swallowed)

    def keep_answers(self, *, after: bytes = b"") -> None:
        """Forward no answer from now on, or after the one with this in it; what is asked goes on."""
        self.last_answer, self.mute = after, not after

    async def _listen(self) -> int:
        self._server = await self._loop.create_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    def _accept(self) -> asyncio.Protocol:
        self._wires.append(wire := Wire(self))
        return End(wire, on_made=partial(self._start_connecting, wire))

    def _start_connecting(self, wire: Wire, near: asyncio.Transport) -> None:
        near.pause_reading()
        task = self._loop.create_task(self._connect(wire, near))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, wire: Wire, near: asyncio.Transport) -> None:
        try:
            await self._loop.create_connection(lambda: End(wire), "127.0.0.1", self._target)
        except OSError:
            near.abort()
        else:
            near.resume_reading()

    async def _close(self) -> None:
        self._server.close()
        for end in [end for wire in self._wires for end in wire.ends]:
            end.abort()
        await self._server.wait_closed()
