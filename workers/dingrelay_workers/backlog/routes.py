"""``/v1/queue`` and ``/v1/workers``: what waits, and who carries it out."""

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_workers.backlog import estimate, workers
from dingrelay_workers.backlog.documents import QueueDocument, WorkerList
from dingrelay_workers.backlog.shown import MOST
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.http.routes import HttpCall, Routes
from dingrelay_workers.limiter.overview import read_pace
from dingrelay_workers.limiter.rules import Rules

ROUTES = Routes(tag="operation", scope="limits:read")


@ROUTES("GET /v1/queue", QueueDocument)
async def get_queue(call: HttpCall) -> QueueDocument:
    """How many jobs wait in each lane, for how long, and when they will be through.

    Of the key's apps; the groups are those of its sender.
    """
    context, key = call.context, call.key
    rules = Rules.from_settings(context.settings.limits, context.settings.egress)
    async with asking():
        pace = await read_pace(context.redis, rules)
        tally, lanes = await estimate.read(context.redis, pace, most=MOST)
    # All senders of an app wait for the same limit in a lane.
    return QueueDocument.of(
        tally,
        lanes,
        lambda jobs: (
            key.permits_app(jobs.app)
            and (not jobs.kind or key.sender == ANY or key.permits_sender(jobs.sender))
        ),
    )


@ROUTES("GET /v1/workers", WorkerList)
async def list_workers(call: HttpCall) -> WorkerList:
    """The workers with their lanes, and which lanes have one."""
    async with asking():
        return await workers.read(call.context.redis)
