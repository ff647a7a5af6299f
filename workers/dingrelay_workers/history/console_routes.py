"""The pages of people: who got what."""

from datetime import datetime
from urllib.parse import quote

from aiohttp import web

from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import at
from dingrelay_workers.console.job_filter import moment
from dingrelay_workers.console.sentences import OUTCOMES, meaning
from dingrelay_workers.console.visit import PAGE, WRITERS, Visit, decoded
from dingrelay_workers.dingtalk.classify import hint_of
from dingrelay_workers.history.service import HistoryService, place_of
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import ANY


@at("/people", scope="directory:read", menu=(10, en("Who got it")))
async def people(visit: Visit) -> web.Response:
    """Find a person by name, userid or address."""
    text = visit.query("q")[:100]
    if not text:
        return visit.page("people.html", text="", people=[], more=0)
    apps = None if ANY in visit.grant.apps else visit.grant.apps
    history = visit.service(HistoryService)
    found = await history.search(text, app=None, apps=apps, limit=PAGE)
    if len(found.people) == 1:
        return visit.redirect(f"/people/{quote(found.people[0].userid, safe='')}")
    more = found.matches - len(found.people)
    return visit.page("people.html", text=text, people=found.people, more=more)


@at("/people/{user}", scope="jobs:read")
async def person(visit: Visit) -> web.Response:
    """Every message to a person."""
    user, after, now = visit.part("user"), visit.query("after"), clock.now()
    since, until = visit.query("since"), visit.query("until")
    before = None
    if after:
        at, id_ = decoded(after, datetime, str)
        before = at, id_
    elif until:
        before = moment("until", until, now), ""
    found = await visit.service(HistoryService).person(
        user,
        app=None,
        limit=PAGE,
        since=moment("since", since, now) if since else None,
        before=before,
    )
    # A broadcast from the console names no system as its sender.
    by_people = {each.campaign for each in found.messages if each.campaign and not each.sender}
    writers = await WRITERS["campaign"](visit, by_people) if by_people else {}
    await visit.know(*(each for some in writers.values() for each in some))
    last = found.messages[-1] if len(found.messages) == PAGE else None
    return visit.page(
        "person.html",
        user=user,
        known_as=[each for each in found.known_as if visit.grant.permits_app(each.app)],
        messages=[
            (each, meaning(OUTCOMES, each.outcome), hint_of(each.reason))
            for each in found.messages
            if visit.grant.permits_job(each.app, each.target)
        ],
        senders={
            campaign: ", ".join(visit.name_of(each) for each in some)
            for campaign, some in writers.items()
        },
        since=since,
        until=until,
        cursor=paging.encode(*place_of(last)) if last else "",
    )
