"""The console as an aiohttp application: who may see a page, and what a form does."""

import hashlib
import hmac
import json
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from typing import cast
from urllib.parse import urlencode, urlsplit

from aiohttp import hdrs, web
from pydantic import SecretBytes
from structlog.stdlib import get_logger

from dingrelay_producers.actor import ACTOR, Actor, current_actor
from dingrelay_producers.errors import Conflict, DingrelayError, ObjectNotFound, ServiceUnavailable
from dingrelay_producers.language import (
    CHINESE,
    ENGLISH,
    accepted,
    current_language,
    spoken,
    tr,
    translated,
)
from dingrelay_producers.logs import places
from dingrelay_producers.readiness import away
from dingrelay_tasks.contract import ContractError
from dingrelay_tasks.sentence import en
from dingrelay_workers.console.context import (
    CONTEXT,
    PAGE,
    REFUSED,
    SAID,
    SESSION,
    ConsoleContext,
    RefusedForm,
)
from dingrelay_workers.console.declared import (
    DECLARED,
    LONGEST_FORM,
    ConsoleRoute,
    FormValues,
    Screen,
    act,
)
from dingrelay_workers.console.forms import (
    COUNT,
    FIELD,
    FormToken,
    digest_of_form,
    forged,
    read_form,
)
from dingrelay_workers.console.rendering import STATIC, page_of, render, static_file
from dingrelay_workers.console.sentences import FieldProblem, problems_in
from dingrelay_workers.console.sign_in import (
    SESSION_COOKIE,
    come_back,
    cookie_of,
    end_cookie,
    leave,
    own_path,
    set_cookie,
    sign_in_by_link,
    sign_in_page,
)
from dingrelay_workers.console.visit import BadFilter, NotHere, Visit, text_of
from dingrelay_workers.http.dispatch import problem_of
from dingrelay_workers.http.problems import Problem
from dingrelay_workers.roles.scopes import RolesReach, permitted, roles_held
from dingrelay_workers.sessions.forms import Sent
from dingrelay_workers.sessions.sessions import Session

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
LANGUAGES = {"zh": CHINESE, "en": ENGLISH}
LANGUAGE_COOKIE = "dingrelay_language"
DONE = "done"
"""The parameter of a URL with the form that led to it."""
_SEPARATORS = re.compile(r"[\s,]")
"""Within a number that people type as they read it."""
REFUSALS = {
    404: en("There is nothing here."),
    405: en("This page can't be used so."),
    413: en("This is too large for one form: send less at a time, or a smaller file."),
    417: en("This page can't be used so."),
}
"""Status of a refusal by aiohttp itself → its text."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # With none, browsers send "Origin: null", and `_check_origin` has nothing to go by.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}

log = get_logger("dingrelay.console")


def create_app(context: ConsoleContext) -> web.Application:
    """The application around a context, which the caller opens and closes."""
    app = web.Application(middlewares=[_edge], client_max_size=LONGEST_FORM)
    app[CONTEXT] = context
    app.on_response_prepare.append(_sign)
    prefix = context.prefix
    app.router.add_get(f"{prefix}/static/{{digest}}/{{name}}", _static)
    app.router.add_get(f"{prefix}/healthz", _healthz)
    app.router.add_get(f"{prefix}/readyz", _readyz)
    app.router.add_get(f"{prefix}/sign-in", sign_in_page)
    app.router.add_post(f"{prefix}/sign-in", sign_in_by_link)
    app.router.add_get(f"{prefix}/sign-in/{{way}}", leave)
    app.router.add_get(f"{prefix}/sign-in/{{way}}/done", come_back)
    app.router.add_post(f"{prefix}/language", _language)
    for route in DECLARED:
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        for method in methods:
            app.router.add_route(method, prefix + route.path, _handler(route))
    if prefix:
        app.router.add_get(prefix, _home)
    return app


@web.middleware
async def _edge(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """The middleware around every request."""
    with spoken(_wanted_language(request)):
        try:
            _check_target(request)
            if request.method == "POST":
                _check_origin(request)
            response = await handler(request)
        except (NotHere, ObjectNotFound):  # the answer does not reveal which
            response = _problem(request, 404, tr("There is nothing here."))
        except BadFilter as error:
            response = _problem(request, 400, translated(str(error)))
        except ServiceUnavailable as error:
            log.warning("console_unavailable", path=request.path, reason=str(error))
            response = _problem(request, 503, translated(str(error)))
        except web.HTTPException as error:
            reason = REFUSALS.get(error.status)
            if reason and SESSION not in request and (session := await _session(request)):
                request[SESSION] = session
            response = _problem(request, error.status, translated(reason or error.reason))
        except Problem as refusal:
            response = _problem(request, refusal.kind.status, translated(refusal.detail))
        except Exception as error:  # noqa: BLE001 - any becomes a page
            problem = problem_of(error) if isinstance(error, DingrelayError) else None
            if problem and problem.kind.status < 500:
                response = _problem(request, problem.kind.status, translated(str(problem.detail)))
            else:
                # Not the traceback: its variables may be secrets.
                name = type(error).__name__
                log.error("console_failed", path=request.path, error=name, at=places(error))  # noqa: TRY400
                response = _problem(
                    request, 500, tr("Something went wrong here; the log has more.")
                )
    return response


async def _sign(_: web.Request, response: web.StreamResponse) -> None:
    """Give each response the headers of the console, one that is written in parts, too."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


def _check_target(request: web.Request) -> None:
    """Refuse a character that no database takes."""
    if "%00" in request.raw_path:
        raise NotHere


def _check_origin(request: web.Request) -> None:
    """Refuse a form of another site. Browsers send one of these headers with every POST."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    is_same_origin = site in {"same-origin", "none"} if site else False
    if not site and origin:
        is_same_origin = urlsplit(origin).netloc == request.host
    if not is_same_origin:
        raise forged()


def _handler(route: ConsoleRoute) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The one place where a page or form is refused to those who may not."""

    async def handle(request: web.Request) -> web.StreamResponse:
        session = await _session(request)
        if session is None:
            query = {"next": request.path_qs}
            if request.method == "POST":
                # The person repeats the form, on its page.
                query = {"expired": "1", "next": _page_of(request, route)}
            return _redirect(_path(request, f"/sign-in?{urlencode(query)}"))
        request[SESSION] = session
        _act_as(session)
        grant = permitted(session.grants, route.scope)
        if grant is None:
            raise web.HTTPForbidden(reason=tr("Your role does not include this."))
        visit = Visit(request, request.app[CONTEXT], session, route.scope, grant)
        if route.method == "POST":
            sent = await read_form(request, route.limit)
            try:
                return await _carry_out(route, visit, sent)
            finally:
                visit.context.shared.forget()
                for field in sent.values():
                    if isinstance(field, web.FileField):
                        field.file.close()
        if form_digest := request.query.get(DONE):
            request[SAID] = await visit.context.forms.said(session, form_digest)
        if hdrs.IF_NONE_MATCH in request.headers:
            return await _shared(route, visit)
        response: web.StreamResponse = await route.handler(visit)
        return response

    return handle


async def _shared(route: ConsoleRoute, visit: Visit) -> web.StreamResponse:
    """The answer of a page that the browser has, and asks for again: its tabs share what was rendered a moment ago.

    Persons share none: what a page shows depends on who asks, and its forms are theirs.
    """
    request, own = visit.request, list[web.StreamResponse]()

    async def rendered() -> bytes | None:
        own.append(await route.handler(visit))
        return request.get(PAGE)

    key = ("page", visit.session.token, request.path_qs, current_language())
    page = await visit.context.shared.get(key, rendered)
    if page is not None and not own:
        return page_of(request, page)
    # A redirect or a file is the answer to one request.
    response: web.StreamResponse = own[0] if own else await route.handler(visit)
    return response


async def _carry_out(route: ConsoleRoute, visit: Visit, sent: FormValues) -> web.StreamResponse:
    """Carry out a form, once."""
    request, session, forms = visit.request, visit.session, visit.context.forms
    token = FormToken.opened(session, request.path, text_of(sent, FIELD))
    if token is None:
        raise forged()
    digest = digest_of_form(session, request.path, sent)
    _act_as(session, request=digest[:32], reason=text_of(sent, "reason"))
    # One that was answered with a page leads nowhere: it is carried out again, and does not act twice.
    while (sent_before := await forms.begin(session, digest)) and sent_before.location:
        # Its first result is repeated only while that holds: else it is another wish, from a page of its own.
        state = await _state_of(route, visit)
        if sent_before.state == _digest_of(state):
            return _redirect(sent_before.location)
        if changed_page := _changed_page(visit, token, state):
            return changed_page
        digest = hashlib.sha256(f"{digest} again".encode()).hexdigest()
    visit.once = hmac.digest(session.form_key, digest.encode(), "sha256")
    seed, name = SecretBytes(visit.once), visit.once[:16].hex()
    ACTOR.set(current_actor()._replace(seed=seed, once=name))
    changed = False
    try:
        response = await _first(route, visit, sent, token)
        changed = response.status < 400
    finally:
        if not changed:
            await forms.release(digest)
    location = response.headers.get(hdrs.LOCATION, "")
    if visit.said:
        mark = urlencode({DONE: digest})
        location += ("&" if "?" in location else "?") + mark
        response.headers[hdrs.LOCATION] = location
    await forms.end(digest, Sent(location, _digest_of(await _state_of(route, visit))), visit.said)
    return response


_Refusal = NotHere | ObjectNotFound | Conflict
_State = Mapping[str, object] | _Refusal | None
"""State of the object that a form changes, or why there is none; None for a form that is good for any."""


async def _state_of(route: ConsoleRoute, visit: Visit) -> _State:
    try:
        return await route.state(visit) if route.state else None
    except (NotHere, ObjectNotFound, Conflict) as error:
        return error


def _digest_of(state: _State) -> str:
    """Digest of a state; "" for none."""
    if state is None:
        return ""
    if isinstance(state, Exception):
        state = {"refusal": type(state).__name__}
    values = {name: str(value) for name, value in state.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _changed_page(visit: Visit, token: FormToken, state: _State) -> web.Response | None:
    """A page of what has changed since that was made on which a form stood; None for nothing."""
    if isinstance(state, Exception):
        raise state
    changes = [] if state is None else token.changed(state)
    if not changes:
        return None
    return visit.page("changed.html", status=409, changes=changes, back=token.page)


def _act_as(session: Session, *, request: str = "", reason: str = "") -> None:
    """Set the actor of the changes that follow."""
    user, role = session.user, " ".join(roles_held(session.grants))
    actor = Actor("console", user, session.name, role, request, reason, person=user)
    ACTOR.set(actor._replace(issuers=session.issuers, reach=RolesReach(session.grants)))


async def _first(
    route: ConsoleRoute, visit: Visit, sent: FormValues, token: FormToken
) -> web.Response:
    # A Chinese keyboard types ２００，０００ as well.
    typed = _SEPARATORS.sub("", unicodedata.normalize("NFKC", text_of(sent, COUNT)))
    if token.count and typed != token.count:
        words = en("Nothing was done: another number was typed.")
        return await _refuse(route, visit, sent, token, {COUNT: FieldProblem(en("number"), words)})
    if changed_page := _changed_page(visit, token, await _state_of(route, visit)):
        return changed_page
    try:
        response: web.Response = await route.handler(visit, sent)
    except (BadFilter, ContractError) as error:
        if route.page and isinstance(error, ContractError):
            return await _refuse(route, visit, sent, token, problems_in(error, route.labels))
        reason = translated(str(error))
        return visit.page("problem.html", status=400, reason=reason, back=token.page)
    return response


async def _refuse(
    route: ConsoleRoute,
    visit: Visit,
    sent: FormValues,
    token: FormToken,
    problems: Mapping[str, FieldProblem],
) -> web.Response:
    """The page of a form again, with what was typed and what is wrong with it."""
    visit.request[REFUSED] = RefusedForm(sent, problems, token.page)
    screen = route.page or _screen_at(route.path)
    assert screen is not None, f"{route.path}: no page has its form"
    return cast("web.Response", await screen(visit))


def _screen_at(path: str) -> Screen | None:
    """The page at this path, which asks before its form is carried out; None for none."""
    screens = (route.handler for route in DECLARED if route[:2] == ("GET", path))
    return next(screens, None)


def _page_of(request: web.Request, route: ConsoleRoute) -> str:
    """The page on which a form stood: at its own path, or that from which it was sent."""
    if _screen_at(route.path):
        return request.path
    came_from = urlsplit(request.headers.get(hdrs.REFERER, ""))
    return came_from.path if came_from.netloc == request.host else ""


async def _session(request: web.Request) -> Session | None:
    """The visitor's session. Tabs that are left open share what was found a moment ago; a form does not."""
    token, context = cookie_of(request, SESSION_COOKIE), request.app[CONTEXT]
    if not token:
        return None
    if request.method == "POST":
        return await context.sessions.find(token)
    return await context.shared.get(("session", token), lambda: context.sessions.find(token))


async def _home(request: web.Request) -> web.Response:
    return _redirect(_path(request, "/"))


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    missing = await away({"redis": context.records.ping, "database": context.services.check})
    lines = [f"{server}: {reason}" for server, reason in missing.items()] or ["ok"]
    text = "".join(f"{line}\n" for line in lines)
    return web.Response(text=text, status=503 if missing else 200)


@act("/sign-out", scope="")
async def sign_out(visit: Visit, _: FormValues) -> web.Response:
    """End the session."""
    await visit.context.sessions.sign_out(visit.session)
    response = visit.redirect("/sign-in")
    end_cookie(visit.request, response, SESSION_COOKIE)
    return response


async def _language(request: web.Request) -> web.Response:
    form = await read_form(request)
    language = str(form.get("language", ""))
    response = _redirect(own_path(request, str(form.get("back", ""))))
    if language in LANGUAGES:
        set_cookie(request, response, LANGUAGE_COOKIE, language)
    return response


def _wanted_language(request: web.Request) -> str:
    language = LANGUAGES.get(cookie_of(request, LANGUAGE_COOKIE))
    return language or accepted(request.headers.get(hdrs.ACCEPT_LANGUAGE))


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in STATIC:
        raise NotHere
    content, _ = static_file(name)
    return web.Response(
        body=content,
        content_type=TYPES[STATIC[name].suffix],
        charset="utf-8",
        # Its URL holds its digest.
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


def _redirect(to: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: to})


def _path(request: web.Request, path: str) -> str:
    return request.app[CONTEXT].prefix + path


def _problem(request: web.Request, status: int, reason: str) -> web.Response:
    return render(request, "problem.html", status=status, reason=reason, back="")
