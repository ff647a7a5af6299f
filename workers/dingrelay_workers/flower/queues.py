"""How Flower counts what waits: behind Sentinel and in RabbitMQ.

All Sentinels are asked, as everywhere else. Flower itself asks the first one of the URL only, and shows nothing
while that is away. RabbitMQ counts through its management API only.
"""

from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from flower.utils import broker
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from structlog.stdlib import get_logger

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.store.connections import open_async

FLOWERS = "RedisSentinel"

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


def management_api(url: str) -> str | None:
    """The URL of RabbitMQ's management API as Flower completes it; None if there is none.

    It takes the last part of a path for the name of a file, and replaces it.
    """
    if not url:
        return None
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/') or '/api'}/"))


def install(address: RedisAddress | None) -> None:
    """Have Flower count so, where the broker is behind Sentinel.

    Another release of Flower may have no such part. Then it counts as it does by itself.
    """
    if address is None or not address.master:
        return
    if not hasattr(broker, FLOWERS):
        log.warning("flower_part_unknown", part=FLOWERS)
        return
    setattr(broker, FLOWERS, partial(Queues, address))
