"""Connections to Redis, alone or behind Sentinel."""

from collections.abc import Mapping
from typing import Any

from redis import Connection as SyncConnection
from redis import ConnectionPool as SyncPool
from redis import Redis
from redis import SSLConnection as SyncSSLConnection
from redis import UnixDomainSocketConnection as SyncUnixConnection
from redis import asyncio as aio
from redis.asyncio import sentinel as aio_sentinel
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from dingrelay_producers import sentinels
from dingrelay_producers.async_connections import TCPConnection, TLSConnection, UnixConnection
from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.store.breaker import Breaker

_Sentinels: Any = sentinels.Sentinels
_AsyncSentinels: Any = sentinels.AsyncSentinels
"""redis-py gives neither them nor its pools types."""


class _SentinelPool(aio_sentinel.SentinelConnectionPool):
    """Closes what it asked the Sentinels with."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


class _BlockingSentinelPool(_SentinelPool, aio.BlockingConnectionPool):
    """One with a bound on its connections, at which it waits."""


def open_sync(address: RedisAddress, *, single: bool = False, **options: Any) -> Redis:
    """A client for threads.

    Args:
        address: where Redis is.
        single: it uses one connection, and errors of that reach the caller.
        options: further ones of each connection, as redis-py names them.
    """
    arguments = {**options, **_arguments(address)}
    if not address.master:
        kinds = {"rediss": SyncSSLConnection, "unix": SyncUnixConnection}
        kind: Any = kinds.get(address.scheme, SyncConnection)
        pool = SyncPool(connection_class=kind, **_server(address), **arguments)
    else:
        watchers = _Sentinels(
            address.hosts,
            sentinel_kwargs={
                **address.sentinel,
                **address.sentinel_credentials,
                # There are others to ask.
                "retry": Retry(NoBackoff(), 0),
            },
        )
        pool_class: Any = sentinels.SentinelPool
        kind = sentinels.SentinelSSLConnection if address.tls else sentinels.SentinelConnection
        pool = pool_class(address.master, watchers, connection_class=kind, **arguments)
    redis = Redis(connection_pool=pool, single_connection_client=single)
    redis.auto_close_connection_pool = True
    return redis


def open_async(
    address: RedisAddress,
    *,
    blocking: bool = False,
    breaker: Breaker | None = None,
    **options: Any,
) -> aio.Redis:
    """A client for an event loop.

    Args:
        address: where Redis is.
        breaker: fails calls while it is away.
        blocking: `max_connections` is a bound at which callers wait, for `timeout` seconds.
        options: further ones of each connection and its pool, as redis-py names them.
    """
    arguments = {**options, **_arguments(address)}
    pool: aio.ConnectionPool
    if not address.master:
        kinds = {"rediss": TLSConnection, "unix": UnixConnection}
        kind: Any = kinds.get(address.scheme, TCPConnection)
        pool_class: Any = aio.BlockingConnectionPool if blocking else aio.ConnectionPool
        pool = pool_class(connection_class=kind, **_server(address), **arguments)
    else:
        watchers = _AsyncSentinels(
            address.hosts,
            sentinel_kwargs={
                **address.sentinel,
                **address.sentinel_credentials,
                "retry": AsyncRetry(NoBackoff(), 0),
            },
        )
        sentinel_pool_class: Any = _BlockingSentinelPool if blocking else _SentinelPool
        pool = sentinel_pool_class(
            address.master,
            watchers,
            connection_class=sentinels.AsyncSentinelSSLConnection
            if address.tls
            else sentinels.AsyncSentinelConnection,
            **arguments,
        )
    if breaker is not None:
        breaker.guard(pool)
    return aio.Redis.from_pool(pool)


def _server(address: RedisAddress) -> Mapping[str, Any]:
    if address.path:
        return {"path": address.path}
    ((host, port),) = address.hosts
    return {"host": host, "port": port}


def _arguments(address: RedisAddress) -> dict[str, Any]:
    # Unix sockets have no keepalive, and redis-py refuses the option for them.
    return address.server if address.path else {"socket_keepalive": True, **address.server}
