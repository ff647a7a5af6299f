"""Everything that a gateway process holds; handlers get it, and there are no globals."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import web
from redis.asyncio import Redis

from dingrelay_producers.cells.found import Found
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.events.receiver import Receiver
from dingrelay_producers.gateway.backend.access import ApiKey, Backend, RateLimiter
from dingrelay_producers.gateway.backend.access import backend as made
from dingrelay_producers.gateway.backend.campaign_writer import CampaignWriter
from dingrelay_producers.gateway.backend.lanes import QueueDepths
from dingrelay_producers.gateway.backend.last_known import KnownKeys, LastKnown, OpenRates
from dingrelay_producers.gateway.backend.metrics import GatewayMetrics
from dingrelay_producers.gateway.backend.missed import MissedReader
from dingrelay_producers.gateway.backend.records import Records
from dingrelay_producers.gateway.backend.server_watch import Check, ServerWatch
from dingrelay_producers.gateway.backend.waiting import EndWatch
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.cells import HOME
from dingrelay_tasks.media_upload import LARGEST

CAMPAIGN_PLACES = 10
"""Requests that ask for campaigns at the same time; the others wait, since each opens a connection to SQL."""
FAREWELL = 1.0
"""Seconds in which background work heeds its cancellation."""


@dataclass(slots=True)
class GatewayContext:
    """What handlers work with: of one cell, where there are cells.

    Attributes:
        settings: of this process; of the cell.
        redis: a connection pool that gives up within 2 s.
        records: job records, over `redis`.
        backend: what needs SQL or the limiter: another package's, or a test's.
        keys: the API keys, of all cells.
        rates: what keeps their rates.
        metrics: counters of this process.
        ends: waits for the ends of jobs.
        campaigns: makes campaigns of files.
        upload_places: of files that the process receives at the same time, each in memory.
        campaign_places: bounds the concurrent campaign requests, each of which has its own connection.
        depths: the number of jobs that wait in each lane.
        receiver: the callbacks of the apps.
        missed: enqueues jobs that read the events which could not be taken.
        door_tokens: cache: drop-in door's token → its holder, as Redis answered before.
        door_answers: names of changes at the drop-in door whose answers have left, until that is noted.
        cells: cell → its context; empty where there are no cells.
        found: cache: id of a job, campaign or endpoint → its cell.
        stopping: set from the first signal to stop on.
        clock: seconds that only grow.
    """

    settings: Settings
    redis: Redis
    records: Records
    backend: Backend
    keys: KnownKeys
    rates: RateLimiter
    metrics: GatewayMetrics
    ends: EndWatch
    depths: QueueDepths
    campaigns: CampaignWriter
    campaign_places: asyncio.Semaphore
    upload_places: asyncio.Semaphore
    receiver: Receiver
    missed: MissedReader
    door_tokens: LastKnown[bytes | str | None]
    cells: Mapping[str, "GatewayContext"]
    found: Found
    stopping: asyncio.Event
    clock: Callable[[], float] = monotonic
    door_answers: set[str] = field(default_factory=set[str])

    def of(self, app: str) -> "GatewayContext":
        """That of the cell that has an app.

        Raises:
            ContractError: no cell has it.
        """
        # A cell's own knows only its own apps.
        return self.cells[self.settings.cell_of(app)] if self.cells else self

    def among(self, apps: Collection[str] | None) -> Mapping[str, "GatewayContext"]:
        """Cell → context, of the cells that have these apps; of all if None. Without cells, this one."""
        if not self.cells:
            return {"": self}
        if apps is None:
            return self.cells
        names = {self.settings.owner_of(app) for app in apps}
        return {name: context for name, context in self.cells.items() if name in names}

    def sender_of(self, key: ApiKey) -> str:
        """The default sender of this key's jobs."""
        return key.default_sender or self.settings.sender


CONTEXT: web.AppKey[GatewayContext] = web.AppKey("gateway", GatewayContext)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What the contexts of all cells have in common."""

    keys: KnownKeys
    rates: RateLimiter
    metrics: GatewayMetrics
    receiver: Receiver
    cells: Mapping[str, GatewayContext]
    door_tokens: LastKnown[bytes | str | None]
    found: Found
    stopping: asyncio.Event
    upload_places: asyncio.Semaphore


@asynccontextmanager
async def opened(
    settings: Settings, backend: Backend, make: Callable[[Settings], Backend] = made
) -> AsyncGenerator[GatewayContext]:
    """A context whose connections are closed after the block, with those of the cells if there are some.

    Args:
        settings: of this process.
        backend: of what all cells share, or of the only servers that there are.
        make: makes that of a cell.
    """
    apps = CurrentApps(settings)
    receiver = Receiver(apps)
    cells: dict[str, GatewayContext] = {}
    across = settings.across_cells
    shared = _Shared(
        keys=KnownKeys(backend.keys, across_cells=across),
        rates=OpenRates(backend.rates) if across else backend.rates,
        metrics=GatewayMetrics(receiver.apps),
        receiver=receiver,
        cells=cells,
        door_tokens=LastKnown(across_cells=True),
        found=Found(),
        stopping=asyncio.Event(),
        upload_places=asyncio.Semaphore(settings.gateway_uploads // LARGEST),
    )
    async with AsyncExitStack() as stack:
        watching = asyncio.create_task(apps.watch()) if apps.has_files else None
        if watching:
            stack.push_async_callback(_ended, watching)
        if across:
            backends = {name: make(settings.of_cell(name)) for name in settings.cells}
            for each in backends.values():
                stack.push_async_callback(each.close)
            await asyncio.gather(*(each.start() for each in backends.values()))
            for name, each in backends.items():
                own = settings.of_cell(name)
                cells[name] = await stack.enter_async_context(_context(own, own, each, shared))
        # Of what all cells share nothing is a cell's.
        front = _context(settings, settings.home if across else settings, backend, shared)
        context = await stack.enter_async_context(front)
        contexts = list(cells.values()) or [context]
        shared.metrics.unpublished.set_function(
            lambda: sum(each.records.enqueuer.unpublished for each in contexts)
        )
        watch = ServerWatch(shared.metrics.server_away, _checks(context))
        stack.push_async_callback(_ended, asyncio.create_task(watch.run()))
        yield context


def _checks(context: GatewayContext) -> dict[tuple[str, str], Check]:
    """Cell and server → asks it. What all cells share is there by the name that no cell may have."""
    everywhere = {HOME if context.cells else "": context, **context.cells}
    return {
        (cell, server): check
        for cell, each in everywhere.items()
        for server, check in (("redis", each.records.ping), ("database", each.backend.check))
    }


@asynccontextmanager
async def _context(
    settings: Settings, servers: Settings, backend: Backend, shared: _Shared
) -> AsyncGenerator[GatewayContext]:
    redis = open_redis(servers)
    records = Records(servers, redis)
    ends = EndWatch(records)
    depths = QueueDepths(records, settings.gateway_queue_limit, monotonic)
    writer = CampaignWriter(lambda: backend.campaigns)
    here = () if settings.across_cells else shared.receiver.apps
    missed = MissedReader(records, redis, filter(settings.serves, here))
    running = asyncio.create_task(missed.run())
    try:
        yield GatewayContext(
            settings=settings,
            redis=redis,
            records=records,
            backend=backend,
            keys=shared.keys,
            rates=shared.rates,
            metrics=shared.metrics,
            ends=ends,
            depths=depths,
            campaigns=writer,
            campaign_places=asyncio.Semaphore(CAMPAIGN_PLACES),
            receiver=shared.receiver,
            missed=missed,
            door_tokens=shared.door_tokens,
            cells=shared.cells if settings.across_cells else {},
            found=shared.found,
            stopping=shared.stopping,
            upload_places=shared.upload_places,
        )
    finally:
        await _ended(running)
        writer.close()
        ends.close()
        await records.aclose()
        await redis.aclose()


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=FAREWELL)
