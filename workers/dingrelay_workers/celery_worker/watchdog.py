"""Ends a worker that was asked to end and does not.

Celery and kombu wait for Redis and for the broker in places that nothing bounds: a server that is
silent without closing its connections would keep a worker for minutes, or for ever.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable

from structlog.stdlib import get_logger

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
BY_HAND = 0
"""Is read where no signal has come, but `stop` was called: no signal has this number."""
LOG_SECONDS = 0.5
"""Seconds for the last line: the reader of the log may hang like Redis."""

log = get_logger("dingrelay.worker")


class Watchdog:
    """A thread that waits for a signal to stop, and ends the process when the time is over.

    Python's own handler of a signal runs in the main thread, which may be stuck; the byte that
    `signal.set_wakeup_fd` writes comes all the same.

    Args:
        longest: seconds that the process has from the first signal on.
        begin: called at the first signal, in the watchdog's thread.
        running: how many jobs run; their leases run out by themselves.
        end: ends the process.
    """

    def __init__(
        self,
        longest: float,
        *,
        begin: Callable[[], object],
        running: Callable[[], int],
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self._longest = longest
        self._begin = begin
        self._running = running
        self._end = end
        self._near, self._far = socket.socketpair()
        self._far.setblocking(False)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dingrelay-watchdog", daemon=True)

    def start(self) -> None:
        """Watch from now on; from the main thread, or signals are not heard."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._far.fileno(), warn_on_full_buffer=False)
        self._thread.start()

    def stop(self) -> None:
        """The worker stops without a signal, asked by remote control for instance."""
        self._far.send(bytes([BY_HAND]))

    def close(self) -> None:
        """Watch no more."""
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        self._over.set()
        self._far.close()
        self._thread.join()
        self._near.close()

    def _watch(self) -> None:
        while byte := self._near.recv(1):
            if byte[0] == BY_HAND or byte[0] in SIGNALS:
                break
        else:
            return
        self._begin()
        if self._over.wait(self._longest):
            return
        writer = threading.Thread(target=self._log, daemon=True)
        writer.start()
        writer.join(LOG_SECONDS)
        self._end(1)

    def _log(self) -> None:
        log.error("shutdown_forced", after=self._longest, jobs=self._running())
