"""How people come into the console: by a link of the command line, or through DingTalk."""

import asyncio
import hmac
import json
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import hdrs, web
from structlog.stdlib import get_logger

from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.language import tr
from dingrelay_producers.settings import DEFAULT_APP, Settings
from dingrelay_workers.console.context import CONTEXT
from dingrelay_workers.console.rendering import render
from dingrelay_workers.console.sessions import Session
from dingrelay_workers.dingtalk.classify import Classifier
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.sign_in import sign_in_url, signed_in
from dingrelay_workers.dingtalk.transport import Transport

SESSION_COOKIE, STATE_COOKIE = "dingrelay_session", "dingrelay_sign_in"
STATE_SECONDS = 600
"""In which a person must come back from DingTalk."""
DONE_PATH = "/sign-in/dingtalk/done"
"""To be named in DingTalk's developer console, behind the URL of the console."""

log = get_logger("dingrelay.console")


@dataclass(frozen=True, slots=True)
class DingTalkSignIn:
    """Signing in through one app.

    Attributes:
        app: in whose directory people must be.
        back: the URL to which DingTalk leads them.
    """

    app: str
    back: str
    login_url: str
    apps: CurrentApps
    transport: Transport

    def state(self, following: str) -> tuple[str, str]:
        """A new state, and the cookie that a browser must bring back with it.

        Args:
            following: the path to which the person wants.
        """
        state = secrets.token_urlsafe(16)
        made = json.dumps([state, int(time.time()) + STATE_SECONDS, following])
        body = urlsafe_b64encode(made.encode()).decode()
        return state, f"{body}.{self._sign(body)}"

    def following(self, state: str, cookie: str) -> str | None:
        """The path to which a person wanted; None if another browser was sent, or too long ago."""
        body, _, seal = cookie.partition(".")
        if not hmac.compare_digest(seal.encode(), self._sign(body).encode()):
            return None
        made, ends, following = json.loads(urlsafe_b64decode(body))
        fits = hmac.compare_digest(made.encode(), state.encode(errors="replace"))
        return following if fits and time.time() < ends else None

    def url(self, state: str) -> str:
        """Where a person is sent."""
        return sign_in_url(self.login_url, self.apps.app(self.app), self.back, state)

    def _sign(self, body: str) -> str:
        secret = self.apps.app(self.app).app_secret.get_secret_value()
        key = hmac.digest(secret.encode(), b"sign-in to the console", "sha256")
        return hmac.digest(key, body.encode(errors="replace"), "sha256").hex()


@asynccontextmanager
async def dingtalk_sign_in(settings: Settings) -> AsyncGenerator[DingTalkSignIn | None]:
    """The way through DingTalk, where the console has a URL and an app has a key.

    The app is ``default``, or the first by name if there is none.
    """
    names = [DEFAULT_APP] if DEFAULT_APP in settings.apps else sorted(settings.apps)[:1]
    if not settings.console_url or not names:
        yield None
        return
    apps = CurrentApps(settings)
    watching = asyncio.create_task(apps.watch()) if apps.has_files else None
    async with Transport.open_session(settings) as session:
        transport = Transport(session, Classifier(settings.codes), settings)
        back = settings.console_url.rstrip("/") + DONE_PATH
        yield DingTalkSignIn(names[0], back, settings.login_url, apps, transport)
    if watching:
        watching.cancel()


async def sign_in_page(request: web.Request) -> web.Response:
    """A button: what previews links in chats must not use one up."""
    return _page(request, link=request.query.get("link", ""))


async def sign_in_by_link(request: web.Request) -> web.Response:
    """Use a link up."""
    form = await request.post()
    session = await request.app[CONTEXT].sessions.sign_in(str(form.get("link", "")))
    if session is None:
        problem = tr("This link was used already, or is older than ten minutes.")
        return _page(request, problem=problem, status=403)
    log.info("console_signed_in", user=session.user, by="link")
    return _come_in(request, session, str(form.get("next", "")))


async def to_dingtalk(request: web.Request) -> web.Response:
    """Send a person to DingTalk. Nothing is stored: what must come back is in a signed cookie."""
    way = _way(request)
    state, cookie = way.state(own_path(request, request.query.get("next", "")))
    response = web.Response(status=303, headers={hdrs.LOCATION: way.url(state)})
    set_cookie(request, response, STATE_COOKIE, cookie, max_age=STATE_SECONDS)
    return response


async def from_dingtalk(request: web.Request) -> web.Response:
    """Let a person in who comes back from DingTalk, is in the directory and has a role."""
    way, context = _way(request), request.app[CONTEXT]
    query, cookie = request.query, request.cookies.get(STATE_COOKIE, "")
    following = way.following(query.get("state", ""), cookie)
    code = query.get("authCode") or query.get("code", "")
    if following is None or not code:
        problem = tr("You did not come back from DingTalk in time, or in another browser.")
        return _page(request, problem=problem, status=403)
    try:
        found = await signed_in(way.transport, way.apps.app(way.app), code)
    except DingTalkError as error:
        log.warning("console_sign_in_failed", code=error.code, reason=str(error))
        problem = tr("DingTalk does not say who you are: {code}. Try again.", code=error.code)
        return _page(request, problem=problem, status=502)
    user = await context.services.directory.userid_of(way.app, found.unionid)
    session = await context.sessions.begin(way.app, user) if user else None
    if session is None:
        log.info("console_sign_in_refused", user=user, by="dingtalk")
        problem = (
            tr(
                "{name} ({user}) has no role here yet. Ask an administrator of dingrelay for one.",
                name=found.nick,
                user=user,
            )
            if user
            else tr(
                "The directory of dingrelay does not have {name} yet: it is synced at times.",
                name=found.nick,
            )
        )
        return _page(request, problem=problem, status=403)
    log.info("console_signed_in", user=session.user, by="dingtalk")
    return _come_in(request, session, following)


def own_path(request: web.Request, path: str) -> str:
    """A path of ours; the first page for any other: "//host" would lead to another site."""
    if path.startswith("/") and not path.startswith(("//", "/\\")):
        return path
    return request.app[CONTEXT].prefix + "/"


def set_cookie(
    request: web.Request, response: web.Response, name: str, value: str, max_age: int | None = None
) -> None:
    """Set a cookie of the console's paths, which no script reads and no other site sends."""
    secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    path = request.app[CONTEXT].prefix + "/"
    response.set_cookie(
        name, value, path=path, httponly=True, samesite="Lax", secure=secure, max_age=max_age
    )


def _way(request: web.Request) -> DingTalkSignIn:
    way = request.app[CONTEXT].dingtalk
    if way is None:
        raise web.HTTPNotFound(reason=tr("There is nothing here."))
    return way


def _come_in(request: web.Request, session: Session, following: str) -> web.Response:
    to = own_path(request, following)
    response = web.Response(status=303, headers={hdrs.LOCATION: to})
    set_cookie(request, response, SESSION_COOKIE, session.token)
    response.del_cookie(STATE_COOKIE, path=request.app[CONTEXT].prefix + "/")
    return response


def _page(
    request: web.Request, *, link: str = "", problem: str = "", status: int = 200
) -> web.Response:
    return render(
        request,
        "sign_in.html",
        link=link,
        problem=problem,
        following=request.query.get("next", ""),
        by_dingtalk=request.app[CONTEXT].dingtalk is not None,
        status=status,
    )
