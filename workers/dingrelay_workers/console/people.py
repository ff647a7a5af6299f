"""The pages of people: who got what."""

from urllib.parse import quote

from aiohttp import web

from dingrelay_workers.console.declared import at
from dingrelay_workers.console.visit import PAGE, Visit
from dingrelay_workers.console.words import OUTCOMES, meaning
from dingrelay_workers.http.api_keys import ANY

MESSAGES = 100
"""The latest to a person that are shown."""


@at("/people", scope="directory:read")
async def people(visit: Visit) -> web.Response:
    """Find a person by name, userid or address."""
    text = visit.query("q")[:100]
    if not text:
        return visit.page("people.html", text="", people=[], more=0)
    apps = None if ANY in visit.grant.apps else visit.grant.apps
    history = visit.context.services.history
    found = await history.search(text, app=None, apps=apps, limit=PAGE)
    if len(found.people) == 1:
        return visit.redirect(f"/people/{quote(found.people[0].userid, safe='')}")
    more = found.matches - len(found.people)
    return visit.page("people.html", text=text, people=found.people, more=more)


@at("/people/{user}", scope="jobs:read")
async def person(visit: Visit) -> web.Response:
    """Every message to a person."""
    user = visit.request.match_info["user"]
    found = await visit.context.services.history.person(user, app=None, limit=MESSAGES)
    messages = [
        (each, meaning(OUTCOMES, each.outcome))
        for each in found.messages
        if visit.grant.permits_app(each.app)
    ]
    known_as = [each for each in found.known_as if visit.grant.permits_app(each.app)]
    return visit.page("person.html", user=user, known_as=known_as, messages=messages)
