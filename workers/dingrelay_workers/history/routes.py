"""``/v1/people``: people by name, and what each of them was sent."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from dingrelay_producers.client.history_documents import FoundPeople, PersonHistory
from dingrelay_tasks.contract import AppName
from dingrelay_workers.history.service import HistoryService, place_of
from dingrelay_workers.http import paging
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.http.authentication import may_see
from dingrelay_workers.http.paging import Moment
from dingrelay_workers.http.routes import HttpCall, Routes

MOST = 1_000
"""Messages to a person that are looked at."""

ROUTES = Routes(tag="directory")

_Limit = Annotated[int, Field(ge=1, le=200)]


class PeopleSearch(paging.Query):
    """Search for people."""

    q: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
    """A part of a name, a userid, or a whole mobile number, e-mail address or job number."""
    app: AppName | None = None
    """Search in this app's directory only."""
    limit: _Limit = 50
    """People at most."""


class PersonQuery(paging.Paging):
    """Filter of messages to a person."""

    app: AppName | None = None
    """Messages of this app only."""
    limit: _Limit = 50
    """Messages at most, the latest first."""
    since: Moment | None = None
    """None from before."""
    until: Moment | None = None
    """Only those from before then."""
    cursor: Annotated[Any, paging.Behind(datetime, str)] = None


class PersonHistoryPage(PersonHistory, frozen=True):
    """One person: some of what they were sent, the latest first, and how the directories know them."""

    next: str | None = None
    """Cursor of the next page; null where this is the last."""


@ROUTES("GET /v1/people", FoundPeople, scope="directory:read", query=PeopleSearch)
async def find_people(call: HttpCall) -> FoundPeople:
    """Find people in the directory by name, userid or address.

    In the directories of the key's apps.
    """
    query: PeopleSearch = call.query
    apps = None if ANY in call.key.apps else call.key.apps
    history = call.context.service(HistoryService)
    return await history.search(query.q, app=query.app, apps=apps, limit=query.limit)


@ROUTES("GET /v1/people/{userid}", PersonHistoryPage, scope="jobs:read", query=PersonQuery)
async def show_person(call: HttpCall) -> PersonHistoryPage:
    """List a person's messages, the latest first, with the reason where one did not arrive.

    Of what the key may see; a page may hold fewer than asked for although there are more. Broadcasts need `campaigns:read`, and what the directories know of the person
    needs `directory:read`.
    """
    query: PersonQuery = call.query
    key = call.key
    before = (query.until, "") if query.until else None
    if query.cursor:
        at, message = query.cursor
        before = at, message
    history = await call.context.service(HistoryService).person(
        call.path("userid"),
        app=query.app,
        limit=MOST,
        since=query.since,
        before=before,
    )
    messages = [
        message
        for message in history.messages
        if may_see(key, sender=message.sender, app=message.app, target=message.target)
        and (not message.campaign or key.permits("campaigns:read"))
    ]
    known_as = [
        person
        for person in history.known_as
        if key.permits("directory:read") and key.permits_app(person.app)
    ]
    shown, last = messages[: query.limit], None
    if len(messages) > query.limit:
        last = shown[-1]
    elif len(history.messages) == MOST:
        last = history.messages[-1]
    cursor = paging.encode(*place_of(last)) if last else None
    return PersonHistoryPage(user=history.user, messages=shown, known_as=known_as, next=cursor)
