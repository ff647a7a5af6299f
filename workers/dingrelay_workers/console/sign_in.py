"""How people come into the console: by a link of the command line, or through another site."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import quote, unquote

from aiohttp import hdrs, web
from structlog.stdlib import get_logger

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.errors import NotInstalled
from dingrelay_producers.language import tr
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_workers.console.context import CONTEXT
from dingrelay_workers.console.forms import read_form
from dingrelay_workers.console.rendering import render
from dingrelay_workers.console.ways import STATE_SECONDS, DingTalkWay, NotSignedIn, SignInWay
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.transport import Transport
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.sessions.sessions import Session

SESSION_COOKIE, STATE_COOKIE = "dingrelay_session", "dingrelay_sign_in"
NEXT_COOKIE = "dingrelay_next"
"""Cookie with the page that a person wanted, for a link that comes by another way and can't name it."""

NEXT_SECONDS = 3_600
_OWN_PATH = re.compile(r"/(?![/\\])[^\x00-\x20\x7f]*")
"""Browsers read "//host" and "/\\host" as another site, and drop a tab or a line end between the two."""

log = get_logger("dingrelay.console")


@asynccontextmanager
async def sign_in_ways(
    settings: Settings, directory: DirectoryService
) -> AsyncGenerator[Mapping[str, SignInWay]]:
    """The ways through other sites, by name, where the console has a URL.

    People must be in the directory of the app ``default``, or of the first by name if there is none.

    Raises:
        NotInstalled: the settings have an OpenID provider, and its extra is missing.
    """
    names = [DEFAULT_APP] if DEFAULT_APP in settings.apps else sorted(settings.apps)[:1]
    ways: dict[str, SignInWay] = {}
    async with AsyncExitStack() as stack:
        if settings.console_url and names:
            common = names[0], settings.console_url, directory
            apps = CurrentApps(settings)
            if apps.has_files:
                watching = asyncio.create_task(apps.watch())
                stack.callback(watching.cancel)
            session = await stack.enter_async_context(Transport.open_session(settings))
            transport = Transport(session, Classifier(settings.codes), settings)
            ways["dingtalk"] = DingTalkWay(
                *common, login_url=settings.login_url, apps=apps, transport=transport
            )
            if settings.oidc.issuer:
                try:
                    from dingrelay_workers.console.oidc import OidcWay  # noqa: PLC0415 - an extra
                except ModuleNotFoundError:
                    raise NotInstalled("oidc") from None
                secret = settings.oidc_secret.get_secret_value()
                ways["oidc"] = OidcWay(*common, settings=settings.oidc, secret=secret)
        yield ways


async def sign_in_page(request: web.Request) -> web.Response:
    """A button: what previews links in chats must not use one up."""
    problem = ""
    if "expired" in request.query:
        problem = tr(
            "You are not signed in any more, and nothing was saved. Sign in again; “Back” of the browser brings back what you had entered."
        )
    return _page(request, link=request.query.get("link", ""), problem=problem)


async def sign_in_by_link(request: web.Request) -> web.Response:
    """Use a link up."""
    form = await read_form(request)
    session = await request.app[CONTEXT].sessions.sign_in(str(form.get("link", "")))
    if session is None:
        problem = tr("This link was used already, or is older than ten minutes.")
        return _page(request, problem=problem, status=403)
    log.info("console_signed_in", user=session.user, by="link")
    return _come_in(request, session, str(form.get("next", "")))


async def leave(request: web.Request) -> web.Response:
    """Send a person to another site. Nothing is stored: what must come back is in a signed cookie."""
    way = _way(request)
    state, cookie = way.begin(own_path(request, request.query.get("next", "")))
    try:
        url = await way.url(state)
    except NotSignedIn as error:
        return _not_signed_in(request, way, error)
    response = web.Response(status=303, headers={hdrs.LOCATION: url})
    set_cookie(request, response, STATE_COOKIE, cookie, max_age=STATE_SECONDS)
    return response


async def come_back(request: web.Request) -> web.Response:
    """Let a person in who comes back, is in the directory and has a role."""
    way, query = _way(request), request.query
    state = query.get("state", "")
    following = way.following(state, cookie_of(request, STATE_COOKIE))
    code = query.get("authCode") or query.get("code", "")
    if following is None or not code:
        problem = tr("You did not come back in time, or came back in another browser.")
        return _page(request, problem=problem, status=403)
    try:
        user, name = await way.arrival(code, state)
    except NotSignedIn as error:
        return _not_signed_in(request, way, error)
    session = await request.app[CONTEXT].sessions.begin(way.app, user) if user else None
    if session is None:
        log.info("console_sign_in_refused", user=user, by=way.name)
        problem = tr("The directory of dingrelay does not have {name} yet.", name=name)
        if user:
            problem = tr(
                "{name} ({user}) has no role here yet. Ask an administrator of dingrelay for one.",
                name=name,
                user=user,
            )
        return _page(request, problem=problem, status=403)
    log.info("console_signed_in", user=session.user, by=way.name)
    return _come_in(request, session, following)


def own_path(request: web.Request, path: str) -> str:
    """A path of ours; the first page for any other."""
    if _OWN_PATH.fullmatch(path):
        return path
    return request.app[CONTEXT].prefix + "/"


def set_cookie(
    request: web.Request, response: web.Response, name: str, value: str, max_age: int | None = None
) -> None:
    """Set a cookie of the console's paths, which no script reads and no other site sends."""
    name, path, secure = _scope_of(request, name)
    response.set_cookie(
        name, value, path=path, httponly=True, samesite="Lax", secure=secure, max_age=max_age
    )


def cookie_of(request: web.Request, name: str) -> str:
    """The value of a cookie that `set_cookie` has set; "" for none."""
    return request.cookies.get(_scope_of(request, name)[0], "")


def end_cookie(request: web.Request, response: web.Response, name: str) -> None:
    """Take back a cookie that `set_cookie` has set."""
    name, path, secure = _scope_of(request, name)
    response.del_cookie(name, path=path, secure=secure)


def _scope_of(request: web.Request, name: str) -> tuple[str, str, bool]:
    """Full name and path of a cookie, and whether only HTTPS carries it: by such a name no other host of the domain can set it."""
    path = request.app[CONTEXT].prefix + "/"
    secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    if not secure:
        return name, path, False
    return f"__Host-{name}" if path == "/" else f"__Secure-{name}", path, True


def _way(request: web.Request) -> SignInWay:
    way = request.app[CONTEXT].ways.get(request.match_info["way"])
    if way is None:
        raise web.HTTPNotFound(reason=tr("There is nothing here."))
    return way


def _not_signed_in(request: web.Request, way: SignInWay, error: NotSignedIn) -> web.Response:
    reason = type(error.__cause__).__name__ if error.__cause__ else str(error)
    log.warning("console_sign_in_failed", by=way.name, reason=reason)
    return _page(request, problem=str(error), status=502)


def _come_in(request: web.Request, session: Session, following: str) -> web.Response:
    to = own_path(request, following)
    response = web.Response(status=303, headers={hdrs.LOCATION: to})
    set_cookie(request, response, SESSION_COOKIE, session.token)
    for name in (STATE_COOKIE, NEXT_COOKIE):
        end_cookie(request, response, name)
    return response


def _page(
    request: web.Request, *, link: str = "", problem: str = "", status: int = 200
) -> web.Response:
    following = request.query.get("next", "")
    response = render(
        request,
        "sign_in.html",
        link=link,
        problem=problem,
        following=following or (unquote(cookie_of(request, NEXT_COOKIE)) if link else ""),
        ways=request.app[CONTEXT].ways,
        status=status,
    )
    if following and not link:
        set_cookie(request, response, NEXT_COOKIE, quote(following[:1_000]), NEXT_SECONDS)
    return response
