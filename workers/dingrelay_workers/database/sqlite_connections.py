"""Connections to SQLite for an event loop, each with a thread that does its work."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any, Self

import aiosqlite

TIMEOUT = 5.0
"""Seconds for all of them to end. One that a lock of another process holds up is left: it is a daemon."""
_ROWS_AT_ONCE = 64
"""Rows of a chunk, where they are read in chunks."""


class ConnectionThreads:
    """Opens SQLite's connections, and waits for their threads.

    aiosqlite does the work of each connection in a thread, which reports to the event loop. A
    waiting task may be cancelled, and the loop closed by then: the thread would end with a traceback.
    """

    def __init__(self) -> None:
        self._threads: set[Thread] = set()

    async def connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        """Open a connection; the arguments are those of `sqlite3.connect`."""
        self._threads = {thread for thread in self._threads if thread.is_alive()}
        connection = _Connection(partial(sqlite3.connect, *arguments, **options))
        thread = connection._thread  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - nothing else returns it
        # As SQLAlchemy does where it opens the connection itself: no process waits for it.
        thread.daemon = True
        self._threads.add(thread)
        return await connection

    async def end(self) -> None:
        """Wait for the threads whose connections are closed or given up."""
        deadline = time.monotonic() + TIMEOUT
        for thread in self._threads:
            await asyncio.to_thread(thread.join, max(0.0, deadline - time.monotonic()))


class _Connection(aiosqlite.Connection):
    """A connection of which each statement is one trip to its thread, with its rows.

    A trip takes longer than most statements: two threads wake each other.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._opened: sqlite3.Connection | None = None
        # Known before the thread has carried it out, which a cancelled task does not wait for.
        self.begins = False

        def open_connection() -> sqlite3.Connection:
            self._opened = opened = connect()
            return opened

        super().__init__(open_connection, _ROWS_AT_ONCE)

    def cursor(self) -> "_Cursor":  # type: ignore[override]
        """A cursor; nothing is done before its statement."""
        return _Cursor(self)

    async def rollback(self) -> None:
        """Roll back the transaction; a reader has none, and needs no trip.

        One that fails leaves the transaction to the next, by which a pool parts with the connection.
        """
        if self.begins:
            await super().rollback()
            self.begins = False

    async def work(self, function: Callable[..., object], *arguments: Any) -> None:
        """Call a function in the connection's thread."""
        await self._execute(function, *arguments)  # type: ignore[no-untyped-call]

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread; of a connection whose opening was cancelled no open file stays behind.

        aiosqlite forgets what its thread opens after that. Only the thread may close it.
        """

        def close() -> None:
            if self._opened is not None:
                self._opened.close()

        self._tx.put_nowait((None, close))
        return super().stop()


class _Cursor:
    """A cursor whose statement is over when it has been executed: its rows are read in the same trip.

    One that is unfinished would hold the lock of a closed connection (``sqlite3_close_v2``), for as long as the
    traceback of a cancelled task keeps it.
    """

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._rows: Sequence[Any] = ()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> None:
        """Execute a statement, and read its rows."""
        self._connection.begins |= statement.startswith("BEGIN")
        await self._connection.work(self._run, "execute", statement, parameters)

    async def executemany(self, statement: str, parameters: Any) -> None:
        """Execute a statement once for each of some parameters."""
        await self._connection.work(self._run, "executemany", statement, parameters)

    async def fetchall(self) -> Sequence[Any]:
        """The rows of the statement."""
        return self._rows

    async def close(self) -> None:
        """End it, which needs nothing."""

    def _run(self, method: str, statement: str, parameters: Any) -> None:
        cursor = self._connection._conn.cursor()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        try:
            getattr(cursor, method)(statement, parameters)
            self._rows = cursor.fetchall()
            self.description = cursor.description
            self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        finally:
            cursor.close()
