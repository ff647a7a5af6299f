"""Sentinels and connections to the primary that they name.

An error of redis-py's quotes each connection to a Sentinel with all of its options; these name the cause in one line.
Its connections ask the Sentinels when they are first made. Within the retries of a command they return to the address
that they had, and a primary that is silent or cut off from its replicas would be asked until the retries end. These
ask at each connect.
"""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import sentinel as aio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from dingrelay_producers.async_connections import LoopConnection, TCPConnection, TLSConnection
from dingrelay_producers.tls_trouble import cause


class Sentinels(Sentinel):
    """Sentinels, for threads."""

    def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary; raises MasterNotFoundError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            trouble = self._trouble()
        raise _not_found(service_name, trouble, self.sentinel_kwargs) from trouble

    def _trouble(self) -> RedisError | None:
        """The error of the first that does not answer as a Sentinel."""
        for sentinel in self.sentinels:
            try:
                sentinel.sentinel_masters()
            except RedisError as error:
                return error
        return None


class SentinelPool(SentinelConnectionPool):
    """Closes what it asked the Sentinels with."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close idle connections, and those in use unless they are left."""
        super().disconnect(inuse_connections)
        if inuse_connections:
            self.sentinel_manager.close()


class AsyncSentinels(aio.Sentinel):
    """Sentinels, for an event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Sends nothing yet."""
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        kind = TLSConnection if self.sentinel_kwargs.get("ssl") else TCPConnection
        for sentinel in self.sentinels:
            sentinel.connection_pool.connection_class = kind

    async def discover_master(self, service_name: str) -> Any:
        """Host and port of the primary; raises MasterNotFoundError."""
        try:
            return await super().discover_master(service_name)
        except aio.MasterNotFoundError:  # another class than that for threads
            trouble = await self._trouble()
        raise _not_found(service_name, trouble, self.sentinel_kwargs) from trouble

    async def _trouble(self) -> RedisError | None:
        for sentinel in self.sentinels:
            try:
                await sentinel.sentinel_masters()
            except RedisError as error:
                return error
        return None


def _not_found(
    name: str, trouble: RedisError | None, options: Mapping[str, Any]
) -> MasterNotFoundError:
    problem = f"no Sentinel names a primary {name!r}"
    if trouble is None:
        return MasterNotFoundError(problem)
    unshown = bool(options.get("ssl")) and not options.get("ssl_certfile")
    return MasterNotFoundError(f"{problem} ({cause(trouble, unshown=unshown)})")


NO_REPLICAS = "NOREPLICAS"
"""How a primary with `min-replicas-to-write` refuses a write: Sentinel may have chosen another one."""


class SentinelConnection(SentinelManagedConnection):
    """A connection through Sentinel, for threads."""

    def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect; with `retry_socket_connect` a command found the connection closed."""
        if retry_socket_connect:
            self.connect_to(self.connection_pool.get_master_address())  # type: ignore[no-untyped-call]
        else:
            super().connect_check_health(check_health, retry_socket_connect)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The answer; a refusal that another primary may not give becomes a ConnectionError."""
        try:
            return super().read_response(*args, **options)
        except ResponseError as error:
            if not str(error).startswith(NO_REPLICAS):
                raise
            self.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError(str(error)) from error


class SentinelSSLConnection(SentinelConnection, SentinelManagedSSLConnection):
    """The same over TLS."""


class AsyncSentinelConnection(LoopConnection, aio.SentinelManagedConnection):
    """A connection through Sentinel, for an event loop."""

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        """Connect; with `retry_socket_connect` a command found the connection closed."""
        if retry_socket_connect:
            await self.connect_to(await self.connection_pool.get_master_address())  # type: ignore[no-untyped-call]
        else:
            await super().connect_check_health(check_health, retry_socket_connect)

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The answer; a refusal that another primary may not give becomes a ConnectionError."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            if not str(error).startswith(NO_REPLICAS):
                raise
            await self.disconnect()
            raise RedisConnectionError(str(error)) from error


class AsyncSentinelSSLConnection(AsyncSentinelConnection, aio.SentinelManagedSSLConnection):
    """The same over TLS."""
