"""The event loop of all simulated processes: its time passes only when nothing else can be done."""

import asyncio
import heapq
import itertools
import socket
from asyncio import Handle, TimerHandle
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
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self.connect: Callable[[Callable[[], Any], int], Any]
        self.steps = 0
        self._timers: list[tuple[float, int, TimerHandle]] = []
        self._numbers = itertools.count()
        self._targets: dict[socket.socket, int] = {}

    def time(self) -> float:
        return BOOT + CLOCK.now

    def _run_once(self) -> None:
        self._advance()
        ready = self._ready
        count = len(ready)
        self.steps += count
        if self.steps > MOST_STEPS:
            raise Endless(f"{self.steps} steps")
        for _ in range(count):
            handle: Any = ready.popleft()
            if handle._cancelled:
                continue
            context = handle._context
            CLOCK.process = process = context.get(PROCESS)
            if process is None or not (process.dead or process.frozen):
                try:
                    context.run(handle._callback, *handle._args)
                except Exception as error:  # noqa: BLE001 - one of the product's, as with asyncio
                    self.call_exception_handler({"exception": error, "handle": handle})
            elif not process.dead:
                process.held.append(handle)
        CLOCK.process = None

    def _advance(self) -> None:
        """Let time pass, if nothing else can be done, and make due what is."""
        ready, timers = self._ready, self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not ready and not self._stopping:
            if not timers:
                raise Endless("all wait, and for nothing")
            CLOCK.now = max(CLOCK.now, timers[0][0] - BOOT)
        end = BOOT + CLOCK.now + 1e-9
        while timers and timers[0][0] <= end:
            _, _, timer = heapq.heappop(timers)
            if not timer._cancelled:
                ready.append(timer)

    def thaw(self, process: Process) -> None:
        """Let a process run on."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    # Those of asyncio ask before each whether it is to be debugged.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> TimerHandle:
        timer = TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None: ...

    def _write_to_self(self) -> None: ...

    def _process_events(self, event_list: Any) -> None: ...

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
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

    async def create_connection(
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
