"""``/v1/people``: people by name, and what each of them was sent."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from dingrelay_producers.client.history_documents import FoundPeople, PersonHistory
from dingrelay_tasks.contract import AppName
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.http import paging
from dingrelay_workers.http.paging import Moment
from dingrelay_workers.http.routes import HttpCall, Routes

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
    history = call.context.service(HistoryService)
    return await history.search(query.q, app=query.app, limit=query.limit)


@ROUTES("GET /v1/people/{userid}", PersonHistoryPage, scope="jobs:read", query=PersonQuery)
async def show_person(call: HttpCall) -> PersonHistoryPage:
    """List a person's messages, the latest first, with the reason where one did not arrive.

    Of what the key may see; a page may hold fewer than asked for although there are more. Broadcasts need `campaigns:read`, and what the directories know of the person
    needs `directory:read`.
    """
    query: PersonQuery = call.query
    before = (query.until, "") if query.until else None
    if query.cursor:
        at, message = query.cursor
        before = at, message
    history, behind = await call.context.service(HistoryService).person(
        call.path("userid"), app=query.app, limit=query.limit, since=query.since, before=before
    )
    cursor = paging.encode(*behind) if behind else None
    return PersonHistoryPage(**dict(history), next=cursor)
