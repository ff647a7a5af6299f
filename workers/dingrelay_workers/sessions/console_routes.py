"""The page of the sessions: who is signed in, and their ends before their time."""

from aiohttp import web

from dingrelay_tasks.sentence import en
from dingrelay_workers.console.declared import FormValues, act, at
from dingrelay_workers.console.visit import Visit, text_of
from dingrelay_workers.http.api_keys import ANY
from dingrelay_workers.roles.scopes import NAMES
from dingrelay_workers.sessions.service import (
    ID_LENGTH,
    SessionRequest,
    SessionService,
    SessionsRequest,
)

_PAGE = "/settings/sessions"


@at(_PAGE, scope=ANY, menu=("settings", 15, en("Sessions")))
async def sessions(visit: Visit) -> web.Response:
    """List the people who are signed in."""
    return visit.page(
        "sessions.html",
        sessions=await visit.service(SessionService).list(),
        names=NAMES,
        present=visit.session.digest[:ID_LENGTH],
    )


@act(f"{_PAGE}/end", scope=ANY)
async def end(visit: Visit, form: FormValues) -> web.Response:
    """End a session."""
    await visit.service(SessionService).end(SessionRequest.parse({"id": text_of(form, "id")}))
    return visit.redirect(_PAGE, en("The session has ended."))


@act(f"{_PAGE}/end_all", scope=ANY)
async def end_all(visit: Visit, form: FormValues) -> web.Response:
    """End all sessions of a person."""
    request = SessionsRequest.parse({"user": text_of(form, "user")})
    await visit.service(SessionService).end_all(request)
    return visit.redirect(_PAGE, en("All sessions of this person have ended, and their links."))
