"""The event loop of all simulated processes: its time passes only when nothing else can be done."""

import asyncio
import heapq
import socket
from asyncio import Handle
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

from dingrelay_simulation.clock import BOOT, CLOCK, Process

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The simulated process to which a callback belongs."""
MOST_STEPS = 3_000_000
"""Callbacks of one run: more is a loop that waits for nothing."""


class Endless(Exception):
    """The run does not come to its end."""


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time; connections go through a `Network`.

    Attributes:
        connect: opens connections: ``(process, protocol factory, port) → transport``.
        steps: callbacks that ran.
    """

    _ready: "deque[Handle]"
    _scheduled: "list[asyncio.TimerHandle]"
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__()
        self.connect: Callable[[Callable[[], Any], int], Any]
        self.steps = 0
        self._targets: dict[socket.socket, int] = {}

    def time(self) -> float:
        return BOOT + CLOCK.now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled
        while scheduled and scheduled[0]._cancelled:  # type: ignore[attr-defined]
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not scheduled:
                raise Endless("all wait, and for nothing")
            CLOCK.now = max(CLOCK.now, scheduled[0].when() - BOOT)
        end = self.time() + 1e-9
        while scheduled and scheduled[0].when() <= end:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer._cancelled:  # type: ignore[attr-defined]
                ready.append(timer)
        self.steps += len(ready)
        if self.steps > MOST_STEPS:
            raise Endless(f"{self.steps} steps")
        for _ in range(len(ready)):
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None:
                if process.dead:
                    continue
                if process.frozen:
                    process.held.append(handle)
                    continue
            CLOCK.process = process
            handle._run()
        CLOCK.process = None

    def thaw(self, process: Process) -> None:
        """Let a process run on."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def call_soon_threadsafe(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_soon(callback, *args, context=context)

    def _write_to_self(self) -> None: ...

    def _process_events(self, event_list: Any) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """Run it here and now: a thread would take real time."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the caller's
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None: ...

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, int(port)))]

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Note where a socket leads: `create_connection` connects it."""
        self._targets[sock] = address[1]

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        *,
        sock: Any = None,
        **options: Any,
    ) -> Any:
        if sock is not None:
            port = self._targets.pop(sock)
            sock.close()
        return await self.connect(protocol_factory, int(port))


def in_process(process: Process) -> Context:
    """A context whose callbacks belong to a process."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context
