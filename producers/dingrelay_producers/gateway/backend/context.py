"""Everything that a gateway process holds; handlers get it, and there are no globals."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.client.async_client import AsyncClient
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.events.receiver import Receiver
from dingrelay_producers.gateway.backend.access import ApiKey, Backend, KeyStore, RateLimiter
from dingrelay_producers.gateway.backend.campaign_writer import CampaignWriter
from dingrelay_producers.gateway.backend.lanes import QueueDepths
from dingrelay_producers.gateway.backend.metrics import GatewayMetrics
from dingrelay_producers.gateway.backend.missed import MissedReader
from dingrelay_producers.gateway.backend.records import Records
from dingrelay_producers.gateway.backend.waiting import EndWatch
from dingrelay_producers.settings import Settings

FAREWELL = 1.0
"""Seconds in which background work heeds its cancellation."""


@dataclass(slots=True)
class GatewayContext:
    """What handlers work with.

    Attributes:
        settings: of this process.
        client: the Python client, for what `records` has not. Its calls run in threads, and wait
            up to 5 s for Redis.
        redis: a connection pool that gives up within 2 s.
        records: job records, over `redis`.
        backend: what needs SQL or the limiter: another package's, or a test's.
        metrics: counters of this process.
        ends: waits for the ends of jobs.
        campaigns: makes campaigns of files.
        depths: knows how many jobs wait in each lane.
        receiver: the callbacks of the apps.
        missed: has the events read that could not be taken.
        clock: seconds that only grow.
    """

    settings: Settings
    client: AsyncClient
    redis: Redis
    records: Records
    backend: Backend
    metrics: GatewayMetrics
    ends: EndWatch
    depths: QueueDepths
    campaigns: CampaignWriter
    receiver: Receiver
    missed: MissedReader
    clock: Callable[[], float] = monotonic

    @property
    def keys(self) -> KeyStore:
        """The API keys."""
        return self.backend.keys

    @property
    def rates(self) -> RateLimiter:
        """What keeps the keys' rates."""
        return self.backend.rates

    def sender_of(self, key: ApiKey) -> str:
        """Who asks, in the jobs of this key that don't say."""
        return key.default_sender or self.settings.sender


CONTEXT: web.AppKey[GatewayContext] = web.AppKey("gateway", GatewayContext)


@asynccontextmanager
async def opened(settings: Settings, backend: Backend) -> AsyncGenerator[GatewayContext]:
    """A context whose connections are closed after the block."""
    redis = open_redis(settings)
    client = AsyncClient(settings)
    records = Records(settings, redis)
    ends = EndWatch(records)
    depths = QueueDepths(records, settings.gateway_queue_limit, monotonic)
    writer = CampaignWriter(lambda: backend.campaigns)
    apps = CurrentApps(settings)
    receiver = Receiver(apps)
    missed = MissedReader(records, redis, receiver.apps)
    background = [asyncio.create_task(missed.run())]
    if apps.has_files:
        background.append(asyncio.create_task(apps.watch()))
    try:
        yield GatewayContext(
            settings=settings,
            client=client,
            redis=redis,
            records=records,
            backend=backend,
            metrics=GatewayMetrics(receiver.apps),
            ends=ends,
            depths=depths,
            campaigns=writer,
            receiver=receiver,
            missed=missed,
        )
    finally:
        for task in background:
            task.cancel()
        await asyncio.wait(background, timeout=FAREWELL)
        writer.close()
        ends.close()
        await records.aclose()
        await redis.aclose()
        await client.aclose()
