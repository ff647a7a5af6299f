"""``/v1/queue``, ``/v1/lanes`` and ``/v1/workers``: what waits, what is paused, and who carries it out."""

from dataclasses import replace

from dingrelay_producers.client.lanes import Lanes
from dingrelay_producers.enqueuing.connections import asking
from dingrelay_workers.backlog import estimate, workers
from dingrelay_workers.backlog.documents import QueueDocument, WorkerList
from dingrelay_workers.backlog.estimate import is_seen
from dingrelay_workers.backlog.shown import MOST
from dingrelay_workers.http.routes import HttpCall, Routes
from dingrelay_workers.http.verb_routes import VerbRoutes
from dingrelay_workers.limiter.overview import read_pace

ROUTES = Routes(tag="operation", scope="limits:read")


@ROUTES("GET /v1/queue", QueueDocument)
async def get_queue(call: HttpCall) -> QueueDocument:
    """How many jobs wait in each lane, for how long, and when they will be through.

    Of the key's apps; the groups are those of its sender.
    """
    context = call.context
    async with asking():
        pace = await read_pace(context.redis, context.settings)
        tally, lanes = await estimate.read(context.redis, pace, most=MOST)
    pauses = await context.steps.carry_out(Lanes().paused())
    groups = [*filter(is_seen, tally.groups)]
    return QueueDocument.of(replace(tally, groups=groups), [*filter(is_seen, lanes)], pauses)


@ROUTES("GET /v1/workers", WorkerList)
async def list_workers(call: HttpCall) -> WorkerList:
    """The workers with their lanes, and which lanes have one."""
    async with asking():
        return await workers.read(call.context.redis)


VerbRoutes(Lanes, fields={"problems": frozenset({409})}).declare(ROUTES)
