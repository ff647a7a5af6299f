"""The pages of broadcasts."""

from datetime import datetime

from aiohttp import web

from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.errors import CampaignNotFound
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.visit import PAGE, NotHere, Visit, decoded
from dingrelay_workers.console.words import OF_CAMPAIGN, OUTCOMES, meaning
from dingrelay_workers.http import paging


@at("/campaigns", scope="campaigns:read")
async def campaigns(visit: Visit) -> web.Response:
    """The latest broadcasts."""
    after = visit.query("after")
    place = decoded(after, datetime, str) if after else None
    found = await visit.context.services.campaigns.list(
        CampaignFilter(), limit=PAGE + 1, after=(place[0], place[1]) if place else None
    )
    last = found[PAGE - 1] if len(found) > PAGE else None
    cursor = paging.encode(last.created_at, last.id) if last else ""
    shown = [(each, meaning(OF_CAMPAIGN, each.state)) for each in found[:PAGE]]
    return visit.page("campaigns.html", campaigns=shown, cursor=cursor)


@at("/campaigns/{id}", scope="campaigns:read")
async def campaign(visit: Visit) -> web.Response:
    """One broadcast: how far it is, and who did not get it, by reason."""
    id_ = visit.request.match_info["id"]
    try:
        status = await visit.context.services.campaigns.status(id_)
        report = await visit.context.services.campaigns.report(id_)
    except CampaignNotFound:
        raise NotHere from None
    outcomes = [
        (meaning(OUTCOMES, outcome), people)
        for outcome, people in report.outcomes.items()
        if people
    ]
    reasons = [(meaning(OUTCOMES, each.outcome), each) for each in report.reasons[:PAGE]]
    return visit.page(
        "campaign.html",
        campaign=status,
        state=meaning(OF_CAMPAIGN, status.state),
        report=report,
        outcomes=outcomes,
        reasons=reasons,
    )
