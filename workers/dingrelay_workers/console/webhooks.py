"""The pages of webhook endpoints."""

from aiohttp import web

from dingrelay_producers.errors import EndpointNotFound
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.visit import NotHere, Visit
from dingrelay_workers.console.words import OF_ENDPOINT, meaning


@at("/webhooks", scope="webhooks:read")
async def webhooks(visit: Visit) -> web.Response:
    """Where notices go."""
    found = await visit.context.services.webhooks.list()
    shown = [(each, meaning(OF_ENDPOINT, each.state)) for each in found]
    return visit.page("webhooks.html", endpoints=shown)


@at("/webhooks/{id}", scope="webhooks:read")
async def webhook(visit: Visit) -> web.Response:
    """One endpoint, and its health."""
    try:
        found = await visit.context.services.webhooks.get(visit.request.match_info["id"])
    except EndpointNotFound:
        raise NotHere from None
    return visit.page("webhook.html", endpoint=found, state=meaning(OF_ENDPOINT, found.state))
