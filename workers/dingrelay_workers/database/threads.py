"""The threads of SQLite's connections, which must end before their event loop does."""

import asyncio
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Any

import aiosqlite

PATIENCE = 5.0
"""Seconds for all of them to end. One that a lock of another process holds up is left: it is a daemon."""


class ConnectionThreads:
    """Opens SQLite's connections, and waits for their threads.

    aiosqlite does the work of each connection in a thread, which reports to the event loop. A
    waiting task may be cancelled, and the loop closed by then: the thread would end with a traceback.
    """

    def __init__(self) -> None:
        self._threads: set[Thread] = set()

    async def connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        """Open a connection; the arguments are aiosqlite's."""
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        connection: Any = aiosqlite.connect(*arguments, factory=_Connection, **options)
        thread = connection._thread  # noqa: SLF001 - nothing else returns it
        # As SQLAlchemy does where it opens the connection itself: no process waits for it.
        thread.daemon = True
        self._threads.add(thread)
        with _closed_if_given_up(connection):
            opened: aiosqlite.Connection = await connection
        return opened

    async def end(self) -> None:
        """Wait for the threads whose connections are closed or given up."""
        deadline = time.monotonic() + PATIENCE
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))


class _Connection(sqlite3.Connection):
    """A connection whose transaction ends when it is closed.

    SQLite keeps a closed connection, with its lock, while one of its statements is unfinished
    (``sqlite3_close_v2``). A cancelled task leaves such a statement until its traceback is collected:
    the next writer of this process waited for that, for as long as the busy timeout.
    """

    def close(self) -> None:
        """Roll back and close; once more does nothing."""
        with suppress(sqlite3.Error):
            self.rollback()
        super().close()


@contextmanager
def _closed_if_given_up(connection: Any) -> Generator[None]:
    """Around the opening: one that is cancelled leaves no open file behind.

    aiosqlite then ends the thread, and forgets what the thread has opened. Only that thread may close it.
    """
    opened: list[sqlite3.Connection] = []
    connector, stop = connection._connector, connection.stop  # noqa: SLF001 - nothing else knows

    def connect() -> sqlite3.Connection:
        opened.append(connector())
        return opened[0]

    def close() -> None:
        for each in opened:
            each.close()

    def give_up() -> Any:
        connection._tx.put_nowait((None, close))  # noqa: SLF001 - before the thread's end, which is in the same queue
        return stop()

    connection._connector, connection.stop = connect, give_up  # noqa: SLF001
    try:
        yield
    finally:
        connection.stop = stop
