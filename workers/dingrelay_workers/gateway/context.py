"""Opens what a gateway process holds: connections, and the services of the nouns."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import monotonic

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.events.receiver import Receiver
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock
from dingrelay_tasks.media_files import LARGEST
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.gateway.callbacks import MissedReader
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.http.records import EndWatch, GatewayRecords, QueueDepths
from dingrelay_workers.http.routes import GatewayContext
from dingrelay_workers.http.steps import StepMaker
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.store.connections import end_tasks


@asynccontextmanager
async def opened(settings: Settings, services: Services) -> AsyncGenerator[GatewayContext]:
    """A context whose connections are closed after the block."""
    apps = CurrentApps(settings)
    receiver = Receiver(apps)
    metrics = GatewayMetrics(receiver.apps)
    stopping = asyncio.Event()
    redis = open_redis(settings)
    records = GatewayRecords(settings, redis)
    ends = EndWatch(records, stopping)
    missed = MissedReader(records, redis, receiver.apps)
    context = GatewayContext(
        settings=settings,
        redis=redis,
        records=records,
        steps=StepMaker(
            records,
            services.of(AuditService),
            services.of(HistoryService),
            services.of(ApprovalService),
            QueueDepths(records, settings.gateway_queue_limit, monotonic),
            metrics,
        ),
        services={
            **services.by_class,
            CurrentApps: apps,
            MissedReader: missed,
            Receiver: receiver,
        },
        verify=services.of(KeyService).verify,
        throttle=services.of(KeyRates).take,
        metrics=metrics,
        ends=ends,
        upload_places=asyncio.Semaphore(settings.gateway_uploads // LARGEST),
        stopping=stopping,
    )
    metrics.unpublished.set_function(lambda: records.enqueuer.unpublished)
    work = [missed.run(), clock.CLOCK.follow(redis)]
    if apps.has_files:
        work.append(apps.watch())
    running = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield context
    finally:
        await end_tasks(running)
        ends.close()
        await records.aclose()
        await redis.aclose()
