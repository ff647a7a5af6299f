"""The network between simulated processes: connections of asyncio in memory, with latency, silence and cuts."""

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from dingrelay_simulation.clock import BOOT, CLOCK, Process
from dingrelay_simulation.loop import PROCESS, VirtualLoop, in_process

DINGTALK, VALKEY = 8443, 6379
"""Ports."""


@dataclass
class Line:
    """The way to a server.

    Attributes:
        latency: seconds of one way: the shortest and the longest.
        refused: no connection is opened, and none stays open.
        silent: nothing arrives; what was sent arrives once that is over.
        slow: seconds that each way takes longer.
        held: messages sent while it was silent, and their receivers; None is a close.
    """

    latency: tuple[float, float]
    refused: bool = False
    silent: bool = False
    slow: float = 0.0
    held: list[tuple["End", bytes | None]] = field(default_factory=list[tuple["End", bytes | None]])


class Server(Protocol):
    """A server that listens on a port."""

    def accept(self, end: "End | None") -> Any:
        """The protocol that serves a new connection; a blocking one has no end."""


class End(asyncio.Transport):
    """One end of a connection.

    Attributes:
        process: that has it; None for a server's.
        port: of the server.
        peer: the other end.
        left: when the message began to leave that has no answer yet; with a connection that was opened for it.
        departed: when the last part of it left.
    """

    peer: "End"

    def __init__(
        self, network: "Network", process: Process | None, port: int, context: Context
    ) -> None:
        super().__init__({"peername": ("127.0.0.1", port), "sockname": ("127.0.0.1", 1)})
        self.process = process
        self.port = port
        self.context = context
        self.protocol: Any = None
        self.closing = False
        self.arrived = 0.0
        self.left: float | None = None
        self.departed = 0.0
        self.remote = ""
        self._network = network

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The address of a client is the name of its process."""
        if name == "peername" and self.remote:
            return self.remote, 1
        return super().get_extra_info(name, default)

    def is_closing(self) -> bool:
        return self.closing

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_reading(self) -> bool:
        return not self.closing

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        if not self.closing and not (self.process and self.process.dead):
            self._network.carry(self, bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """Close in order: what was written arrives before."""
        if not self.closing:
            self._end(None)
            self._network.carry(self, None)

    def abort(self) -> None:
        """Close at once: what has not left is dropped."""
        if not self.closing:
            self._network.drop(self)
            self.close()

    def lose(self, error: Exception | None) -> None:
        """The connection breaks."""
        if not self.closing:
            self._end(error)

    def _end(self, error: Exception | None) -> None:
        self.closing = True
        self._network.loop.call_soon(self.protocol.connection_lost, error, context=self.context)
        self._network.ends.pop(self, None)

    def receive(self, data: bytes | None) -> None:
        """Something has arrived; None is the other end's close."""
        if self.closing:
            return
        if data is None:
            self.protocol.eof_received()
            self.lose(None)
        else:
            self.protocol.data_received(data)


class Network:
    """All connections.

    Attributes:
        on_send: notified of each message of a process, before it is carried: ``(end, data)``.
        on_arrive: notified of each message to a process, before it arrives.
    """

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self.loop = loop
        self.rng = rng
        self.servers: dict[int, Server] = {}
        self.lines: dict[int, Line] = {
            VALKEY: Line((0.0001, 0.0005)),
            DINGTALK: Line((0.004, 0.03)),
        }
        self.cut: dict[tuple[str, int], Line] = {}
        """Lines of one process that is cut off from a server."""
        self.ends: dict[End, None] = {}
        self.on_send: Callable[[End, bytes | None], bool] = lambda _end, _data: True
        self.on_arrive: Callable[[End, bytes | None], bool] = lambda _end, _data: True
        loop.connect = self.connect

    def line(self, process: Process | None, port: int) -> Line:
        """The way of a process to a server."""
        return self.cut.get((process.name if process else "", port)) or self.lines[port]

    async def connect(self, factory: Callable[[], Any], port: int) -> tuple[End, Any]:
        """Open a connection for the running process."""
        process = PROCESS.get()
        line, began = self.line(process, port), CLOCK.now
        await asyncio.sleep(self._way(line) * 2)
        while line.silent:
            await asyncio.sleep(0.5)
            line = self.line(process, port)
        if line.refused:
            raise ConnectionRefusedError(111, "Connection refused")
        context = in_process(process) if process else in_process(Process("none"))
        near = End(self, process, port, context)
        far = End(self, None, port, in_process(SERVER))
        near.peer, far.peer = far, near
        near.left = began
        near.protocol = factory()
        far.protocol = self.servers[port].accept(far)
        far.remote = process.name if process else ""
        self.ends |= {near: None, far: None}
        near.protocol.connection_made(near)
        far.context.run(far.protocol.connection_made, far)
        return near, near.protocol

    def carry(self, end: End, data: bytes | None) -> None:
        """Bring a message to the other end."""
        peer = end.peer
        process = end.process or peer.process
        if end.process:
            if end.left is None:
                end.left = CLOCK.now
            end.departed = CLOCK.now
            if not self.on_send(end, data):
                return
        if process and process.dead:
            return
        line = self.line(process, end.port) if self.cut else self.lines[end.port]
        if line.silent:
            line.held.append((peer, data))
        else:
            self._carry(peer, data, line)

    def drop(self, end: End) -> None:
        """Forget what an end has sent and what has not left."""
        for line in (*self.cut.values(), self.lines[end.port]):
            line.held = [(peer, data) for peer, data in line.held if peer is not end.peer]

    def _carry(self, peer: End, data: bytes | None, line: Line) -> None:
        arrival = CLOCK.now + self._way(line)
        # What was sent before arrives before.
        arrival = max(arrival, peer.arrived)
        peer.arrived = arrival
        self.loop.call_at(BOOT + arrival, self._arrive, peer, data, context=peer.context)

    def _arrive(self, peer: End, data: bytes | None) -> None:
        if peer.process:
            peer.left = None
        if not peer.closing and (peer.process is None or self.on_arrive(peer, data)):
            peer.receive(data)

    def _way(self, line: Line) -> float:
        shortest, longest = line.latency
        return shortest + (longest - shortest) * self.rng.random() + line.slow

    def heal(self, line: Line) -> None:
        """Let held messages arrive."""
        line.silent = False
        held, line.held = line.held, []
        for peer, data in held:
            self._carry(peer, data, line)

    def reset(self, port: int | None = None, process: Process | None = None) -> None:
        """Break the connections to a server, or of a process."""
        for end in list(self.ends):
            near = end if end.process else end.peer
            if (port is None or end.port == port) and (process is None or near.process is process):
                end.lose(ConnectionResetError(104, "Connection reset by peer"))

    def session(self, port: int) -> Any:
        """A blocking connection to a server, as the server has it."""
        self._reach(port)
        return self.servers[port].accept(None)

    def _reach(self, port: int) -> None:
        line = self.line(CLOCK.process, port)
        if line.refused or (CLOCK.process and CLOCK.process.dead):
            raise ConnectionRefusedError(111, "Connection refused")
        if line.silent:
            raise TimeoutError("timed out")

    def exchange(self, data: bytes, port: int, session: Any) -> bytes:
        """The answer over a blocking connection of the running process: no time passes.

        Raises:
            OSError: the server can't be reached.
        """
        self._reach(port)
        near = End(self, CLOCK.process, port, in_process(SERVER))
        if not self.on_send(near, data):
            raise ConnectionResetError(104, "Connection reset by peer")
        answer: bytes = session.answer(data)
        if not self.on_arrive(near, answer):
            raise ConnectionResetError(104, "Connection reset by peer")
        return answer


SERVER = Process("server")
"""The process of servers; it is neither killed nor frozen."""
