"""The event loop of all simulated processes: its time passes only when nothing else can be done."""

import asyncio
import heapq
import itertools
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

from dingrelay_simulation.clock import BOOT, CLOCK, Process

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
"""The simulated process to which a callback belongs."""
MOST_STEPS = 500_000
"""Callbacks of one run: more is a loop that waits for nothing. The longest of 1,120 plain seeds had 168,358."""


class Endless(Exception):
    """The run does not come to its end."""


class Scheduled:
    """A callback that will run, and may be cancelled: asyncio's handle without what it keeps for debugging.

    Attributes:
        callback: None once it was cancelled.
    """

    __slots__ = ("_when", "args", "callback", "context")

    def __init__(
        self, callback: Any, args: tuple[Any, ...], context: Context | None, when: float = 0.0
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = copy_context() if context is None else context
        self._when = when

    def cancel(self) -> None:
        """Let it not run."""
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        """Time of the loop at which it is due."""
        return self._when


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time; connections go through a `Network`.

    Attributes:
        connect: opens connections: ``(process, protocol factory, port) → transport``.
        steps: callbacks that ran.
    """

    _ready: "deque[Any]"
    _stopping: bool
    get_debug: Any = bool
    """It is not debugged, which each new future asks."""

    def __init__(self) -> None:
        super().__init__()
        self.connect: Callable[[Callable[[], Any], int], Any]
        self.steps = 0
        self._timers: list[tuple[float, int, Scheduled]] = []
        self._numbers = itertools.count()
        self._targets: dict[socket.socket, int] = {}

    def time(self) -> float:
        return BOOT + CLOCK.now

    def _run_once(self) -> None:
        """Run until it is stopped; all that is ready runs before what that makes ready."""
        ready, timers, pop, clock = self._ready, self._timers, heapq.heappop, CLOCK
        while not self._stopping:
            if not ready:
                self._advance()
            end = BOOT + clock.now + 1e-9
            while timers and timers[0][0] <= end:
                ready.append(pop(timers)[2])
            count = len(ready)
            self.steps += count
            if self.steps > MOST_STEPS:
                raise Endless(f"{self.steps} steps")
            for _ in range(count):
                scheduled = ready.popleft()
                callback, context = scheduled.callback, scheduled.context
                if callback is None:
                    continue
                clock.process = process = context.get(PROCESS)
                if process is None or not (process.dead or process.frozen):
                    try:
                        context.run(callback, *scheduled.args)
                    except Exception as error:  # noqa: BLE001 - one of the product's, as with asyncio
                        self.call_exception_handler({"exception": error})
                elif not process.dead:
                    process.held.append(scheduled)
            clock.process = None

    def _advance(self) -> None:
        """Let time pass until the next callback is due."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            raise Endless("all wait, and for nothing")
        if (due := timers[0][0] - BOOT) > CLOCK.now:
            CLOCK.now = due

    def thaw(self, process: Process) -> None:
        """Let a process run on."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)

    # Those of asyncio ask before each whether it is to be debugged.

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> Scheduled:
        scheduled = Scheduled(callback, args, context)
        self._ready.append(scheduled)
        return scheduled

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Scheduled:
        scheduled = Scheduled(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), scheduled))
        return scheduled

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> Scheduled:
        when = BOOT + CLOCK.now + delay
        scheduled = Scheduled(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), scheduled))
        return scheduled

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        return asyncio.Task(coro, loop=self, **options)

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


_timeouts: Any = asyncio.timeouts
_ENTERED = _timeouts._State.ENTERED


async def _enter(self: Any) -> Any:
    """Begin a time-out of asyncio's: in fewer steps, and checked for nothing."""
    task = self._task = asyncio.current_task()
    assert task is not None
    self._state = _ENTERED
    self._cancelling = task.cancelling()
    when = self._when
    if when is not None:
        loop: Any = task.get_loop()
        self._timeout_handler = loop.call_at(when, self._on_timeout)
    return self


def install() -> None:
    """Let time-outs of this process, most of which never pass, cost less."""
    timeout: Any = asyncio.Timeout
    timeout.__aenter__ = _enter


def in_process(process: Process) -> Context:
    """A context whose callbacks belong to a process."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context
