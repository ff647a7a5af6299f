"""The pages of approvals."""

from datetime import datetime

from aiohttp import web

from dingrelay_producers.client.filters import ApprovalFilter
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.visit import PAGE, Visit, decoded
from dingrelay_workers.console.words import OF_APPROVAL, meaning


@at("/approvals", scope="approvals:read")
async def approvals(visit: Visit) -> web.Response:
    """The latest approvals, and who has to decide."""
    cursor = visit.query("after")
    if cursor:
        decoded(cursor, datetime, str, str)
    found = await visit.context.services.approvals.list(
        ApprovalFilter(apps=visit.grant.sees["apps"], cursor=cursor or None), limit=PAGE
    )
    shown = [(each, meaning(OF_APPROVAL, each.state)) for each in found.approvals]
    return visit.page("approvals.html", approvals=shown, cursor=found.next or "")
