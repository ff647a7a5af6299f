"""Connections to Redis on an event loop: one that was closed under a command is a lost connection, on every loop.

Asyncio's own transports take what is written to them after their end, and redis-py meets that at its next wait. uvloop's
raise `RuntimeError`, which no retry of redis-py's knows.
"""

from collections.abc import Iterable

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError


class LoopConnection(AbstractConnection):
    """A connection on whichever loop."""

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write a command; raises ConnectionError where the connection is closed."""
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error


class TCPConnection(LoopConnection, Connection):
    """The same over TCP."""


class TLSConnection(LoopConnection, SSLConnection):
    """The same over TLS."""


class UnixConnection(LoopConnection, UnixDomainSocketConnection):
    """The same over a Unix socket."""
