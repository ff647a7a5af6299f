"""Opens what a gateway process holds: connections, and the services of the nouns."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.events.receiver import Receiver
from dingrelay_producers.readiness import Check
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.cells import HOME
from dingrelay_producers.store import clock
from dingrelay_tasks.media_files import LARGEST
from dingrelay_workers.gateway.callbacks import MissedReader
from dingrelay_workers.gateway.health import ServerWatch, servers_of
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.last_known import LastKnown
from dingrelay_workers.http.metrics import GatewayMetrics
from dingrelay_workers.http.records import EndWatch, GatewayRecords, QueueDepths
from dingrelay_workers.http.routes import GatewayContext
from dingrelay_workers.keys.service import KeyService

FAREWELL = 1.0
"""Seconds in which background work heeds its cancellation."""


@asynccontextmanager
async def opened(
    settings: Settings, services: Services, make: Callable[[Settings], Services] = Services
) -> AsyncGenerator[GatewayContext]:
    """A context whose connections are closed after the block, with those of the cells if there are some.

    Args:
        settings: of this process.
        services: of what all cells share, or of the only servers that there are.
        make: makes those of a cell.
    """
    apps = CurrentApps(settings)
    receiver = Receiver(apps)
    cells: dict[str, GatewayContext] = {}
    across = settings.across_cells
    metrics = GatewayMetrics(receiver.apps)
    stopping = asyncio.Event()
    # Shared by the contexts of all cells.
    shared = partial(
        GatewayContext,
        verify=services.keys.verify,
        throttle=services.rates.take,
        metrics=metrics,
        door_tokens=LastKnown(),
        stopping=stopping,
        upload_places=asyncio.Semaphore(settings.gateway_uploads // LARGEST),
        cells={},
    )
    common = {CurrentApps: apps, KeyService: services.keys, Receiver: receiver}
    async with AsyncExitStack() as stack:
        watching = asyncio.create_task(apps.watch()) if apps.has_files else None
        if watching:
            stack.push_async_callback(_ended, watching)
        if across:
            opened_services = {name: make(settings.of_cell(name)) for name in settings.cells}
            for each in opened_services.values():
                stack.push_async_callback(each.close)
            for name, each in opened_services.items():
                each.begin()
                own = settings.of_cell(name)
                cells[name] = await stack.enter_async_context(
                    _context(own, own, each, common, stopping, shared)
                )
        # Shared settings hold nothing of a cell.
        front = _context(settings, settings.home, services, common, stopping, shared)
        context = await stack.enter_async_context(front)
        context.cells = cells
        metrics.unpublished.set_function(
            lambda: sum(each.records.enqueuer.unpublished for each in context.each)
        )
        stack.push_async_callback(_ended, asyncio.create_task(clock.CLOCK.follow(context.redis)))
        watch = ServerWatch(metrics.server_away, _checks(context))
        stack.push_async_callback(_ended, asyncio.create_task(watch.run()))
        yield context


def _checks(context: GatewayContext) -> dict[tuple[str, str], Check]:
    """Cell and server → asks it. What all cells share is there by the name that no cell may have."""
    everywhere = {HOME if context.cells else "": context, **context.cells}
    return {
        (cell, server): check
        for cell, each in everywhere.items()
        for server, check in servers_of(each).items()
    }


@asynccontextmanager
async def _context(
    settings: Settings,
    servers: Settings,
    services: Services,
    common: Mapping[type, Any],
    stopping: asyncio.Event,
    shared: Callable[..., GatewayContext],
) -> AsyncGenerator[GatewayContext]:
    redis = open_redis(servers)
    records = GatewayRecords(servers, redis)
    ends = EndWatch(records, stopping)
    depths = QueueDepths(records, settings.gateway_queue_limit, monotonic)
    here = () if settings.across_cells else common[Receiver].apps
    missed = MissedReader(records, redis, filter(settings.serves, here))
    running = asyncio.create_task(missed.run())
    try:
        yield shared(
            settings=settings,
            redis=redis,
            records=records,
            services={
                **services.by_class(),
                **common,
                MissedReader: missed,
            },
            find_approval=services.approvals.get,
            ends=ends,
            depths=depths,
        )
    finally:
        await _ended(running)
        ends.close()
        await records.aclose()
        await redis.aclose()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=FAREWELL)
