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
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging


@at("/people", scope="directory:read", menu=("people", 20, en("Who got it")))
async def people(visit: Visit) -> web.Response:
    """Find a person by name, userid or address."""
    text = visit.query("q")[:100]
    if not text:
        return visit.page("people.html", text="", people=[], more=0)
    result = await visit.service(HistoryService).search(text, app=None, limit=PAGE)
    if len(result.people) == 1:
        return visit.redirect(f"/people/{quote(result.people[0].userid, safe='')}")
    more = result.matches - len(result.people)
    return visit.page("people.html", text=text, people=result.people, more=more)


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
    person_history, behind = await visit.service(HistoryService).person(
        user,
        app=None,
        limit=PAGE,
        since=moment("since", since, now) if since else None,
        before=before,
    )
    # A broadcast from the console names no system as its sender.
    by_people = {
        message.campaign
        for message in person_history.messages
        if message.campaign and not message.sender
    }
    writers = await WRITERS["campaign"](visit, by_people) if by_people else {}
    await visit.know(*(userid for userids in writers.values() for userid in userids))
    return visit.page(
        "person.html",
        user=user,
        known_as=person_history.known_as,
        messages=[
            (message, meaning(OUTCOMES, message.outcome), hint_of(message.reason))
            for message in person_history.messages
        ],
        senders={
            campaign: ", ".join(visit.name_of(userid) for userid in userids)
            for campaign, userids in writers.items()
        },
        since=since,
        until=until,
        cursor=paging.encode(*behind) if behind else "",
    )
