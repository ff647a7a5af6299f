"""Blocking calls of the product, in virtual time: redis-py's sockets, and SQLite's threads.

What blocks a thread takes no virtual time here. It fails as the network would have it fail.
"""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from typing import Any

import aiosqlite.core
import redis._parsers.hiredis as parser
import redis.connection

from dingrelay_producers.client import connection as client_connection
from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.compiled import share_compiled
from dingrelay_simulation.loop import PROCESS
from dingrelay_simulation.network import Network
from dingrelay_workers import resources
from dingrelay_workers.database import database, sqlite_connections

STATEMENT = 0.0004
"""Seconds of a statement."""
INSTANT = frozenset({"close"})
"""Functions of SQLite's that take no time: they execute nothing."""
AWAY = "unable to open database file"
"""SQLite's words for a disk that is away."""
LOCKED_PAUSE = 0.1
"""Seconds after which SQLite looks again whether a lock is free."""


class BlockingSocket:
    """A socket to a server of the network: what is sent is answered at once."""

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self._session = network.session(port)
        self._received = bytearray()

    def sendall(self, data: bytes) -> None:
        self._received += self._network.exchange(bytes(data), self._port, self._session)

    def recv_into(self, buffer: bytearray) -> int:
        if not self._received:
            raise TimeoutError("timed out")
        count = min(len(buffer), len(self._received))
        buffer[:count] = self._received[:count]
        del self._received[:count]
        return count

    def settimeout(self, seconds: float | None) -> None: ...

    def shutdown(self, how: int) -> None: ...

    def close(self) -> None: ...

    def fileno(self) -> int:
        return -1


class InlineQueue:
    """aiosqlite's queue of one connection, whose work is done on the event loop, in order.

    A statement that meets another connection's lock tries again, as SQLite does, for as long as the busy timeout says.
    """

    def __init__(self) -> None:
        self._work: list[tuple[Any, Callable[[], Any], float]] = []
        self._busy = False
        self._timeout = 30.0

    def put_nowait(self, work: tuple[Any, Callable[[], Any]]) -> None:
        future, function = work
        self._work.append((future, function, CLOCK.now))
        if self._busy:
            return
        self._busy = True
        if _name(function) in INSTANT:
            self._next()
        else:
            asyncio.get_running_loop().call_later(STATEMENT, self._next)

    def _next(self) -> None:
        loop = asyncio.get_running_loop()
        future, function, since = self._work[0]
        try:
            result = _carry_out(function, _FAULTS[-1]())
        except sqlite3.OperationalError as error:
            if "locked" in str(error) and CLOCK.now - since < self._timeout:
                loop.call_later(LOCKED_PAUSE, self._next)
                return
            self._end(future, error=error)
        except BaseException as error:  # noqa: BLE001 - the caller's
            self._end(future, error=error)
        else:
            self._end(future, result)
        del self._work[0]
        if self._work:
            loop.call_later(STATEMENT, self._next)
        else:
            self._busy = False

    def _end(self, future: Any, result: Any = None, error: BaseException | None = None) -> None:
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


_FAULTS: list[Callable[[], str]] = [str]
"""Function that answers how the running process's statement fails: ``before`` or ``after`` its effect, or empty."""


def _name(function: Callable[[], Any]) -> str:
    return getattr(getattr(function, "func", function), "__name__", "")


def _carry_out(function: Callable[[], Any], fault: str) -> Any:
    # A connection that is given up ends its transaction, whether or not the database hears of it.
    if fault == "before" and _name(function) != "close":
        raise sqlite3.OperationalError(AWAY)
    result = function()
    if fault == "after":
        raise sqlite3.OperationalError(AWAY)
    return result


def _strftime(form: str, moment: str) -> str:
    """The database's clock, in place of SQLite's own function: it is the simulation's, too."""
    assert (form, moment) == ("%s", "now"), "only the present second is asked for"
    return str(int(CLOCK.true()))


class NoThread:
    """In place of the thread of a connection."""

    daemon = True

    def __init__(self, **_: Any) -> None: ...

    def start(self) -> None: ...

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float | None = None) -> None: ...


class Databases:
    """The connections of processes to SQLite, which end with them.

    Attributes:
        faults: process → how its statements fail, and which share of them.
    """

    def __init__(self, rng: random.Random) -> None:
        self.faults: dict[str, tuple[str, float]] = {}
        self._rng = rng
        self._opened: dict[str, list[sqlite3.Connection]] = {}

    def fault(self) -> str:
        """How the running process's next statement fails; empty if it does not."""
        process = PROCESS.get()
        when, share = self.faults.get(process.name if process else "", ("", 0.0))
        return when if when and self._rng.random() < share else ""

    def connect(self, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Open a connection that waits for no lock by itself."""
        options["timeout"] = 0
        connection = real(*arguments, **options)
        connection.create_function("strftime", 2, _strftime)
        process = PROCESS.get()
        self._opened.setdefault(process.name if process else "", []).append(connection)
        return connection

    def kill(self, name: str) -> None:
        """Roll back what a process had begun."""
        for connection in self._opened.pop(name, []):
            with suppress(sqlite3.Error):
                connection.close()

    def close(self) -> None:
        for name in list(self._opened):
            self.kill(name)


def _can_read(sock: Any, timeout: float) -> bool:
    return bool(sock._received)


def _is_closed(sock: Any) -> bool:
    return False


def _beside(work: Coroutine[Any, Any, Any]) -> None:
    """In place of a thread in which a client writes into SQL: on the loop, beside what it goes on with."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda task: None if task.cancelled() else task.exception())


def install(network: Callable[[], Network], databases: Callable[[], Databases]) -> None:
    """Let this process's blocking calls take no time, and go over the network that is current."""
    real_connect = sqlite3.connect

    def connect(self: Any) -> Any:
        return BlockingSocket(network(), self.port)

    redis.connection.Connection._connect = connect  # type: ignore[method-assign]
    share_compiled()
    about: Any = resources
    about.version = cache(about.version)
    in_client: Any = client_connection
    in_client.run = _beside
    polled: Any = parser
    polled._socket_can_read = _can_read
    polled._socket_is_closed = _is_closed
    sql: Any = aiosqlite.core
    _FAULTS.append(lambda: databases().fault())
    sql.SimpleQueue = InlineQueue
    sql._TxQueue = InlineQueue
    sql.Thread = NoThread

    def open_sqlite(*arguments: Any, **options: Any) -> Any:
        return databases().connect(real_connect, *arguments, **options)

    class Sqlite:
        connect = staticmethod(open_sqlite)

        def __getattr__(self, name: str) -> Any:
            return getattr(sqlite3, name)

    connections: Any = sqlite_connections
    connections.sqlite3 = Sqlite()
    module: Any = database
    prepare: Any = module._prepare

    def prepared(connection: Any, *arguments: Any) -> None:
        prepare(connection, *arguments)
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout = 0")
        cursor.close()

    module._prepare = prepared
