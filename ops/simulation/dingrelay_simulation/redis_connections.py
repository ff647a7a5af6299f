"""redis-py's connections on the event loop: their bytes are in memory, and what is idle or well is used in one step.

No other task runs within a step of the loop, so that a pool needs no lock for it. What has to wait, to connect or to
disconnect is left to redis-py.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from functools import cache
from math import inf
from typing import Any

import redis._parsers.hiredis as parser
import redis.asyncio.client
import redis.asyncio.connection
import redis.client
import redis.utils
from redis._parsers.socket import SERVER_CLOSED_CONNECTION_ERROR
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError

COUNTED = (
    "connection_count",
    "connection_create_time",
    "connection_wait_time",
    "connection_closed",
)
"""Counters that redis-py keeps of its connections."""


class Stream(asyncio.Protocol):
    """The bytes of redis-py's connection, for the one task that reads them: both streams of asyncio, and their protocol.

    Attributes:
        at_end: the other end has closed.
    """

    def __init__(self) -> None:
        self.transport: Any = None
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self.at_end = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._closed = self._loop.create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def eof_received(self) -> None:
        self.at_end = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.at_end, self._error = self.at_end or exc is None, exc
        self._wake()
        if not self._closed.done():
            self._closed.set_result(None)

    def _wake(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    async def read(self, most: int) -> bytes:
        """Bytes received so far; empty at the end."""
        if not self._buffer and not self.at_end and self._error is None:
            self._reader = self._loop.create_future()
            await self._reader
        if self._error is not None:
            raise self._error
        data, self._buffer = self._buffer[:most], self._buffer[most:]
        return data

    @property
    def filled(self) -> bool:
        """Whether bytes wait to be read."""
        return bool(self._buffer)

    def at_eof(self) -> bool:
        return self.at_end and not self._buffer

    def write(self, data: bytes | Iterable[bytes]) -> bool:
        """Write; false where the connection is not well: `drain` would tell."""
        if self._error is not None or self.transport.closing or self._closed.done():
            return False
        self.transport.write(data if isinstance(data, bytes) else b"".join(data))
        return True

    def writelines(self, data: Iterable[bytes]) -> None:
        if self._closed.done():
            raise RuntimeError("the handler is closed")  # as uvloop does
        self.transport.write(b"".join(data))

    async def drain(self) -> None:
        if self._error is not None:
            raise self._error
        if self.transport.closing:
            await asyncio.sleep(0)
        if self._closed.done():
            raise ConnectionResetError("Connection lost")

    def close(self) -> None:
        self.transport.close()

    async def wait_closed(self) -> None:
        await self._closed


def _without_locks(pool_class: type[ConnectionPool]) -> None:
    """Let a pool give and take back an idle connection in one step.

    Nothing else runs within that step. What has to wait, to connect or to disconnect is left to redis-py.
    """
    kind: Any = pool_class
    get, give_back = kind.get_connection, kind.release

    async def get_connection(self: Any, *arguments: Any, **options: Any) -> Any:
        if not self._available_connections:
            return await get(self, *arguments, **options)
        connection = self.get_available_connection()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self: Any, connection: Any) -> None:
        condition = getattr(self, "_condition", None)
        if connection.should_reconnect() or (condition is not None and condition._waiters):
            await give_back(self, connection)
            return
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)

    kind.get_connection, kind.release = get_connection, release


def _without_looks() -> None:
    """Let a pool look at a connection in one step, unless something is amiss."""
    kind: Any = ConnectionPool
    ensure = kind.ensure_connection

    async def ensure_connection(self: Any, connection: Any) -> None:
        if not _is_clean(connection):
            await ensure(self, connection)

    kind.ensure_connection = ensure_connection


def _is_clean(connection: Any) -> bool:
    """Whether it is connected, and nothing waits in it to be read."""
    stream: Stream | None = connection._reader
    reader = connection._parser
    return (
        stream is not None
        and reader._connected
        and not (stream.filled or stream.at_end or reader._reader.has_data())
    )


def _in_fewer_steps(connection_class: Any) -> None:
    """Let a connection that is well write and read through its `Stream`, and do as redis-py does where it is not."""
    read, send = connection_class.read_response, connection_class.send_packed_command

    async def read_response(
        self: Any, disable_decoding: bool = False, timeout: float | None = None, **options: Any
    ) -> Any:
        if timeout != inf or disable_decoding or not self._parser._connected:
            return await read(self, disable_decoding, timeout, **options)
        try:
            answer = await _answer(self._parser, self._reader)
        except OSError as error:
            await self.disconnect(nowait=True)
            raise RedisConnectionError(f"Error while reading: {error}") from error
        except BaseException:
            await self.disconnect(nowait=True)
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_packed_command(self: Any, command: Any, check_health: bool = True) -> None:
        stream: Stream | None = self._reader
        if stream is None or self.health_check_interval or not stream.write(command):
            await send(self, command, check_health)

    connection_class.read_response = read_response
    connection_class.send_packed_command = send_packed_command


async def _answer(parsed: Any, stream: "Stream") -> Any:
    """The next answer: a value, or an error that Redis answered.

    Raises:
        RedisConnectionError, OSError: the connection has ended, or is of no use.
    """
    reader = parsed._reader
    while (answer := reader.gets()) is parser.NOT_ENOUGH_DATA:
        received = await stream.read(parsed._read_size)
        if not received:
            raise RedisConnectionError(SERVER_CLOSED_CONNECTION_ERROR)
        reader.feed(received)
    if isinstance(answer, RedisConnectionError):
        raise answer
    return answer


class _Callbacks(dict[str, Any]):
    """redis-py's readers of answers by the name of their command in any case, copied in one step for each client."""

    def __init__(self, callbacks: dict[str, Any]) -> None:
        super().__init__(zip(map(str.upper, callbacks), callbacks.values(), strict=True))

    def __contains__(self, name: object) -> bool:
        return super().__contains__(str(name).upper())

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name.upper())

    def __setitem__(self, name: str, reads: Any) -> None:
        super().__setitem__(name.upper(), reads)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name.upper())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.upper(), default)


_SERIALIZER = HiredisRespSerializer()


def _pack(_: Any, *parts: Any) -> list[bytes]:
    """A command, packed in C as redis-py does for its blocking connections only."""
    packed: list[bytes] = _SERIALIZER.pack(*parts)
    return packed


async def _unread(*_: Any, **__: Any) -> None:
    """In place of what redis-py counts for OpenTelemetry, and of news that only a cloud's server has: no reader is there."""


def _nothing(*_: Any) -> None:
    """Neither give nor keep anything."""


def _no_name(_: Any) -> str:
    return ""


class InMemory:
    """asyncio for redis-py, whose bytes are in memory: writing takes no time, and needs no time-out."""

    def __getattr__(self, name: str) -> Any:
        value = self.__dict__[name] = getattr(asyncio, name)
        return value

    @staticmethod
    async def wait_for(work: Awaitable[Any], timeout: float | None) -> Any:
        return await work

    @staticmethod
    async def open_connection(host: str, port: int) -> tuple[Stream, Stream]:
        _, stream = await asyncio.get_running_loop().create_connection(Stream, host, port)
        return stream, stream


def install() -> None:
    """Let this process's clients on the event loop do so."""
    module: Any = redis.asyncio.connection
    module.asyncio = InMemory()
    for name in COUNTED:
        setattr(module, f"record_{name}", _unread)
    module.get_pool_name = _no_name
    connection: Any = module.AbstractConnection
    connection.pack_command = _pack
    _in_fewer_steps(connection)
    # Both are a round trip of each new connection, and the server does nothing for it.
    connection.driver_info = property(_nothing, _nothing)
    connection.activate_maint_notifications_handling_if_enabled = _unread
    for pool_class in (ConnectionPool, BlockingConnectionPool):
        _without_locks(pool_class)
    _without_looks()
    # Each new connection would read redis-py's metadata again.
    utils: Any = redis.utils
    utils.get_lib_version = cache(utils.get_lib_version)
    for client in (redis.client, redis.asyncio.client):
        clients: Any = client
        clients.CaseInsensitiveDict = _Callbacks
