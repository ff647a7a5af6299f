"""How Flower counts what waits: behind Sentinel and in RabbitMQ.

All Sentinels are queried, as everywhere else. Flower itself queries the first one of the URL only,
and shows nothing while that is away. RabbitMQ counts through its management API only; where its URL
is not set, Flower guesses it, and sends the broker's password there over plain HTTP.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flower.utils import broker
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from structlog.stdlib import get_logger

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.settings import LOOPBACK, Settings, SettingsError
from dingrelay_producers.settings.addresses import scheme
from dingrelay_producers.store.connections import open_async

log = get_logger("dingrelay.flower")


class Queues(broker.RedisBase):  # type: ignore[misc]  # flower ships no types
    """The queues of one Redis. Flower makes one for each look, which closes its connection.

    Args:
        address: of the broker.
        arguments: of Flower's, from Celery's settings.
        options: the same.
    """

    def __init__(self, address: RedisAddress, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.redis = open_async(
            address,
            socket_timeout=self.socket_timeout,
            socket_connect_timeout=self.socket_connect_timeout,
            retry=Retry(NoBackoff(), 0),
        )


class RabbitQueues(broker.RabbitMQ):  # type: ignore[misc]  # flower ships no types
    """The queues of a RabbitMQ that is reached over TLS.

    Args:
        ca: file with the authorities that may have signed the certificate of its management API; the system's
            if empty.
        url: of the broker.
        http_api: URL of that API; nothing is asked, and nothing shown, if it is empty.
        options: of Flower's, from Celery's settings.
    """

    def __init__(self, ca: str, url: str, http_api: str | None, **options: Any) -> None:
        super().__init__(url, http_api, **options)
        self._ca, self._known = ca, bool(http_api)

    async def queues(self, names: Iterable[str]) -> Any:
        """The number of messages in each of these queues."""
        return (await super().queues(names) or []) if self._known else []

    def _tls_kwargs(self) -> dict[str, Any]:
        return {"validate_cert": True, "ca_certs": self._ca or None}


def management_api(settings: Settings) -> str | None:
    """The URL of RabbitMQ's management API as Flower completes it; None if there is none.

    Flower takes the last part of a path for the name of a file, and replaces it.

    Raises:
        SettingsError: it would have a password in plain, and the broker has it over TLS.
    """
    url = settings.flower_broker_api.get_secret_value()
    if not url:
        return None
    parts = urlsplit(url)
    if _over_tls(settings) and parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise SettingsError("DINGRELAY_FLOWER_BROKER_API: must be https, as the broker is amqps")
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/') or '/api'}/"))


def install(address: RedisAddress | None) -> None:
    """Have Flower count so, where the broker is behind Sentinel."""
    if address is not None and address.master:
        _replace("RedisSentinel", partial(Queues, address))


def install_rabbitmq(settings: Settings) -> None:
    """Have Flower count so, where the broker is a RabbitMQ that is reached over TLS."""
    if not _over_tls(settings):
        return
    _replace("RabbitMQ", partial(RabbitQueues, settings.tls_ca))
    if not settings.flower_broker_api.get_secret_value():
        log.warning("flower_shows_no_queues", set="DINGRELAY_FLOWER_BROKER_API")


def _over_tls(settings: Settings) -> bool:
    return scheme(settings.broker) == "amqps"


def _replace(part: str, by: Any) -> None:
    """Another release of Flower may have no such part. Then it counts as it does by itself."""
    if not hasattr(broker, part):
        log.warning("flower_part_unknown", part=part)
        return
    setattr(broker, part, by)
