"""Runs a worker's heartbeats in a thread of their own, so that a busy event loop is not taken for a dead process."""

import asyncio
import threading
from contextlib import suppress
from functools import partial
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_sync
from dingrelay_producers.store.flows import Flow, run_flow, run_step
from dingrelay_workers.maintenance.presence import Presence

log = get_logger("dingrelay.presence")


class PresenceThread:
    """The heartbeats of one worker, over one connection to Redis. Use as an async context.

    Args:
        settings: where Redis is.
        presence: what is written, and when.
    """

    def __init__(self, settings: Settings, presence: Presence) -> None:
        self._presence = presence
        self._address = settings.redis_address
        self._redis: Redis | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, name="dingrelay-presence", daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """The process has released its jobs: its heartbeats are no longer needed."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.join)

    def _live(self) -> None:
        while True:
            try:
                self._run(self._presence.beat())
            except (RedisError, OSError) as error:
                self._presence.interrupt()
                self._disconnect()
                log.debug("presence_write_failed", reason=type(error).__name__)
            if self._stopping.wait(self._presence.period):
                break
        if self._redis is not None:
            with suppress(RedisError, OSError):  # others will find it gone
                self._run(self._presence.leave())
        self._disconnect()

    def _run(self, flow: Flow[None]) -> None:
        run_flow(flow, partial(run_step, self._connected()))

    def _connected(self) -> Redis:
        """Redis by one connection, whose loss is noted: Redis may have been away."""
        if self._redis is None:
            timeout = 2 * self._presence.period
            self._redis = open_sync(
                self._address,
                single=True,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                retry=Retry(NoBackoff(), 0),
            )
        return self._redis

    def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            redis.close()
