"""The console as an aiohttp application: who may see a page, and how it is written."""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers.cli.output import length
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.language import (
    CHINESE,
    ENGLISH,
    accepted,
    now_spoken,
    spoken,
    tr,
    translated,
)
from dingrelay_producers.settings import Settings
from dingrelay_producers.zone import local
from dingrelay_workers.backlog.cli import counted
from dingrelay_workers.console.sessions import Session, Sessions
from dingrelay_workers.gateway.services import Services

FOLDER = Path(__file__).parent
STATIC = {"console.css": "text/css", "console.js": "text/javascript", "icon.svg": "image/svg+xml"}
LANGUAGES = {"zh": CHINESE, "en": ENGLISH}
SESSION_COOKIE, LANGUAGE_COOKIE = "dingrelay_session", "dingrelay_language"
LONGEST_FORM = 20_000
"""Bytes."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self';"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}

log = get_logger("dingrelay.console")


@dataclass(frozen=True, slots=True)
class ConsoleContext:
    """Everything that the console holds.

    Attributes:
        prefix: of every path behind a proxy, such as ``/dingrelay``; empty for none.
    """

    settings: Settings
    services: Services
    sessions: Sessions
    redis: Redis
    prefix: str = ""


CONTEXT: web.AppKey[ConsoleContext] = web.AppKey("console", ConsoleContext)


@dataclass(slots=True)
class Visit:
    """A request of a person who has signed in."""

    request: web.Request
    context: ConsoleContext
    session: Session

    def query(self, name: str) -> str:
        """A parameter of the URL, without blanks around it; "" if it is missing."""
        return self.request.query.get(name, "").strip()

    def page(self, template: str, **values: Any) -> web.Response:
        """A page from a template."""
        return _page(self.request, template, session=self.session, **values)

    def redirect(self, path: str) -> web.Response:
        """Lead to another page of the console."""
        return _redirect(self.context.prefix + path)


Screen = Callable[[Visit], Awaitable[web.StreamResponse]]


class NotHere(Exception):
    """There is no such job, person or campaign."""


class BadFilter(Exception):
    """A filter in the URL can't be read; the reason is for people."""


def create_app(context: ConsoleContext, screens: Mapping[str, Screen]) -> web.Application:
    """The application around a context, which the caller opens and closes.

    Args:
        context: the services.
        screens: path → page.
    """
    app = web.Application(middlewares=[_edge], client_max_size=LONGEST_FORM)
    app[CONTEXT] = context
    prefix = context.prefix
    app.router.add_get(f"{prefix}/static/{{digest}}/{{name}}", _static)
    app.router.add_get(f"{prefix}/healthz", _healthz)
    app.router.add_get(f"{prefix}/sign-in", _sign_in_page)
    app.router.add_post(f"{prefix}/sign-in", _sign_in)
    app.router.add_post(f"{prefix}/sign-out", _sign_out)
    app.router.add_post(f"{prefix}/language", _language)
    for path, screen in screens.items():
        app.router.add_get(prefix + path, _screen(screen))
    if prefix:
        app.router.add_get(prefix, _home)
    return app


@web.middleware
async def _edge(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """What every request meets first and every answer last."""
    with spoken(_wanted_language(request)):
        try:
            if request.method == "POST":
                _check_origin(request)
            response: web.StreamResponse = await handler(request)
        except NotHere:
            response = _problem(request, 404, tr("There is nothing here."))
        except BadFilter as error:
            response = _problem(request, 400, str(error))
        except ServiceUnavailable as error:
            log.warning("console_unavailable", path=request.path, reason=str(error))
            response = _problem(request, 503, translated(str(error)))
        except web.HTTPException as error:
            response = _problem(request, error.status, error.reason)
        except Exception:
            log.exception("console_failed", path=request.path)
            response = _problem(request, 500, tr("Something went wrong here; the log has more."))
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _check_origin(request: web.Request) -> None:
    """Refuse a form of another site. Browsers send one of these headers with every POST."""
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    own = site in {"same-origin", "none"} if site else False
    if not site and origin:
        own = urlsplit(origin).netloc == request.host
    if not own:
        raise web.HTTPForbidden(reason=tr("This form was not sent from the console."))


def _screen(screen: Screen) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        session = await _session(request)
        if session is None:
            return _redirect(_path(request, "/sign-in"))
        return await screen(Visit(request, request.app[CONTEXT], session))

    return handle


async def _session(request: web.Request) -> Session | None:
    token = request.cookies.get(SESSION_COOKIE, "")
    return await request.app[CONTEXT].sessions.find(token) if token else None


async def _home(request: web.Request) -> web.Response:
    return _redirect(_path(request, "/"))


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _sign_in_page(request: web.Request) -> web.Response:
    """A button: what previews links in chats must not use one up."""
    return _page(request, "sign_in.html", link=request.query.get("link", ""), refused=False)


async def _sign_in(request: web.Request) -> web.Response:
    form = await request.post()
    session = await request.app[CONTEXT].sessions.sign_in(str(form.get("link", "")))
    if session is None:
        return _page(request, "sign_in.html", link="", refused=True, status=403)
    log.info("console_signed_in", user=session.user)
    response = _redirect(_path(request, "/"))
    _set_cookie(request, response, SESSION_COOKIE, session.token)
    return response


async def _sign_out(request: web.Request) -> web.Response:
    session, form = await _session(request), await request.post()
    if session is not None:
        _check_form(session, form)
        await request.app[CONTEXT].sessions.sign_out(session)
    response = _redirect(_path(request, "/sign-in"))
    response.del_cookie(SESSION_COOKIE, path=_path(request, "/"))
    return response


async def _language(request: web.Request) -> web.Response:
    form = await request.post()
    chosen = str(form.get("language", ""))
    back = str(form.get("back", ""))
    # A path of ours only: "//host" would lead to another site.
    if not back.startswith("/") or back.startswith(("//", "/\\")):
        back = _path(request, "/")
    response = _redirect(back)
    if chosen in LANGUAGES:
        _set_cookie(request, response, LANGUAGE_COOKIE, chosen)
    return response


def _check_form(session: Session, form: Mapping[str, Any]) -> None:
    if not hmac.compare_digest(str(form.get("token", "")), session.form_token):
        raise web.HTTPForbidden(reason=tr("This form was not sent from the console."))


def _set_cookie(request: web.Request, response: web.Response, name: str, value: str) -> None:
    secure = request.secure or request.headers.get("X-Forwarded-Proto") == "https"
    response.set_cookie(
        name, value, path=_path(request, "/"), httponly=True, samesite="Lax", secure=secure
    )


def _wanted_language(request: web.Request) -> str:
    chosen = LANGUAGES.get(request.cookies.get(LANGUAGE_COOKIE, ""))
    return chosen or accepted(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))


async def _static(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in STATIC:
        raise NotHere
    content, _ = _file(name)
    return web.Response(
        body=content,
        content_type=STATIC[name],
        charset="utf-8",
        # Its URL holds its digest.
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


@cache
def _file(name: str) -> tuple[bytes, str]:
    """A static file, and the beginning of its digest."""
    content = (FOLDER / "static" / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]


def _redirect(to: str) -> web.Response:
    return web.Response(status=303, headers={hdrs.LOCATION: to})


def _path(request: web.Request, path: str) -> str:
    return request.app[CONTEXT].prefix + path


def _problem(request: web.Request, status: int, reason: str) -> web.Response:
    return _page(request, "problem.html", status=status, reason=reason)


def _page(
    request: web.Request,
    template: str,
    *,
    session: Session | None = None,
    status: int = 200,
    **values: Any,
) -> web.Response:
    context = request.app[CONTEXT]

    def path(to: str) -> str:
        return context.prefix + to

    def static(name: str) -> str:
        return path(f"/static/{_file(name)[1]}/{name}")

    text = (
        _templates()
        .get_template(template)
        .render(
            path=path,
            static=static,
            here=request.path,
            full=request.path_qs,
            session=session,
            status=status,
            environment=context.settings.env,
            language="zh-CN" if now_spoken() == CHINESE else "en",
            **values,
        )
    )
    body = text.encode("utf-8", "replace")
    tag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Cookie, Accept-Language",
    }
    known = request.headers.get(hdrs.IF_NONE_MATCH, "")
    if status == 200 and tag in known:
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=body, status=status, content_type="text/html", charset="utf-8", headers=headers
    )


def _title(summary: str) -> str:
    """What a message is called where people look for theirs: its summary without app and lane."""
    return re.sub(r"^(\S+) app=\S+ lane=\S+( sender=\S+)?", r"\1", summary)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    names: dict[str, Any] = cast("dict[str, Any]", found.globals)
    names["_"] = tr
    found.filters |= {
        "local": local,
        "length_of": length,
        "title_of": _title,
        "counted": counted,
        "translated": translated,
    }
    return found
