"""Connections to Redis for asyncio, which pack commands in C."""

from collections.abc import Mapping
from typing import Any

import hiredis
from redis import asyncio as aio
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.connection import HiredisRespSerializer


class _Packed:
    """Packs commands in C, as redis-py does for its synchronous connections only."""

    _serializer = HiredisRespSerializer()

    def pack_command(self, *args: Any) -> list[bytes]:
        packed: list[bytes]
        if args[0] == "EVALSHA":  # nearly all; of other commands some have names of two words
            packed = [hiredis.pack_command(args)]
        else:
            packed = self._serializer.pack(*args)
        return packed


class Connection(_Packed, aio.Connection):
    """A connection over TCP."""


class SSLConnection(_Packed, aio.SSLConnection):
    """A connection over TLS."""


class UnixConnection(_Packed, aio.UnixDomainSocketConnection):
    """A connection over a socket file."""


_PACKED: Mapping[type[AbstractConnection], type[AbstractConnection]] = {
    aio.SSLConnection: SSLConnection,
    aio.UnixDomainSocketConnection: UnixConnection,
}


def address(url: str) -> dict[str, Any]:
    """The arguments of a connection pool for this URL."""
    found: dict[str, Any] = {**parse_url(url)}
    plain = found.pop("connection_class", None)
    # A socket file has nothing to keep alive, and redis-py refuses to be told so.
    if plain is not aio.UnixDomainSocketConnection:
        found["socket_keepalive"] = True
    return {"connection_class": _PACKED.get(plain, Connection), **found}
