"""The pages of DingTalk's limits, and of the workers that keep them."""

from datetime import UTC, datetime

from aiohttp import web

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_workers.backlog import workers as fleet
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.now import outage
from dingrelay_workers.console.visit import Visit
from dingrelay_workers.limiter import overview
from dingrelay_workers.limiter.rules import in_words


@at("/limits", scope="limits:read")
async def limits(visit: Visit) -> web.Response:
    """How full DingTalk's limits are."""
    async with asking():
        found = await overview.read(visit.context.redis, visit.context.settings)
    return visit.page(
        "limits.html",
        limits=found,
        in_words=in_words,
        outages=[outage(each) for each in found.outages],
        months=found.quota,
        now=datetime.now(UTC),
    )


@at("/workers", scope="limits:read")
async def workers(visit: Visit) -> web.Response:
    """Who carries jobs out."""
    async with asking():
        found = await fleet.read(visit.context.redis)
    return visit.page("workers.html", found=found)
