"""kombu's transport for a Redis behind Sentinel, which takes all Sentinels from one URL.

kombu wants a URL for each, with the password in every one, and connects to them with the options
of the Redis itself.
"""

from functools import cache
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.sentinels import (
    SentinelConnection,
    SentinelPool,
    Sentinels,
    SentinelSSLConnection,
)

ALIAS = "sentinel"
SILENCE = 2
"""Seconds of silence after which a connection to the primary is given up, in place of `SOCKET_TIMEOUT`: another
server takes over within seconds. A worker's main thread meets its silent connections one after the other."""
_KOMBUS = "kombu.transport.redis:SentinelTransport"


class SentinelChannel(redis.SentinelChannel):
    """A channel to the primary that Sentinel names. Without our option it does what kombu's does."""

    connection_class: Any = SentinelConnection
    connection_class_ssl: Any = SentinelSSLConnection
    sentinels: tuple[tuple[str, int], ...] = ()
    from_transport_options: Any = (*redis.SentinelChannel.from_transport_options, "sentinels")

    def _sentinel_managed_pool(self: Any, asynchronous: bool = False) -> Any:
        if not self.sentinels:
            return super()._sentinel_managed_pool(asynchronous)  # type: ignore[no-untyped-call]
        parameters = self._connparams(asynchronous)
        del parameters["host"], parameters["port"]
        manager = Sentinels(  # type: ignore[no-untyped-call]
            self.sentinels, sentinel_kwargs=self.sentinel_kwargs
        )
        return SentinelPool(  # type: ignore[no-untyped-call]
            self.master_name, manager, **parameters
        )


class SentinelTransport(redis.SentinelTransport):
    """Redis behind Sentinel with these channels."""

    Channel = SentinelChannel


def install() -> None:
    """Let kombu find it by its scheme, unless a worker has put its own there."""
    if TRANSPORT_ALIASES[ALIAS] == _KOMBUS:
        TRANSPORT_ALIASES[ALIAS] = f"{__name__}:SentinelTransport"


# kombu keeps a pool for each text of the options: an object of its own for each client would be a pool of its own.
_ONE_TRY = Retry(NoBackoff(), 0)


@cache
def _login(**credentials: str) -> UsernamePasswordCredentialProvider:
    """User and password, not as text, which would be seen."""
    return UsernamePasswordCredentialProvider(**credentials)


def options(address: RedisAddress) -> dict[str, Any]:
    """The transport options for this address. Celery shows them to anyone who inspects a worker."""
    sentinel_arguments: dict[str, Any] = {**address.sentinel, "retry": _ONE_TRY}
    if credentials := address.sentinel_credentials:
        sentinel_arguments["credential_provider"] = _login(**credentials)
    return {
        "master_name": address.master,
        "sentinels": address.hosts,
        "sentinel_kwargs": sentinel_arguments,
        "socket_timeout": SILENCE,
        "socket_connect_timeout": SILENCE,
        "health_check_interval": SILENCE,
    }
