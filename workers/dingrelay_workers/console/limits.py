"""The pages of DingTalk's limits, and of the workers that keep them."""

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.store import keys
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.backlog import estimate
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.now import forecast, outage
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.rules import in_words

QUEUES = sorted(
    {f"dingrelay.{lane}" for lane in estimate.LANES}
    | {kind.queue for kind in KINDS.values() if kind.queue}
)
"""That a worker must serve for every kind of job to be carried out."""


@at("/limits", scope="limits:read")
async def limits(visit: Visit) -> web.Response:
    """How full DingTalk's limits are."""
    async with asking():
        found = await overview.read(visit.context.redis, visit.context.settings)
    present = datetime.now(UTC)
    return visit.page(
        "limits.html",
        limits=found,
        in_words=in_words,
        outages=[outage(each) for each in found.outages],
        months=forecast(found.quota, present),
        now=present,
    )


@at("/workers", scope="limits:read")
async def workers(visit: Visit) -> web.Response:
    """Who carries jobs out."""
    redis = visit.context.redis
    async with asking():
        signs: Any = await redis.hkeys(keys.PRESENCE)
        names = sorted(name.decode(errors="replace") for name in signs)
        alive: Any = await redis.mget(list(map(keys.alive, QUEUES)))
    lanes = [
        (name.removeprefix("dingrelay."), sign is not None)
        for name, sign in zip(QUEUES, alive, strict=True)
    ]
    return visit.page("workers.html", workers=names, lanes=lanes)
