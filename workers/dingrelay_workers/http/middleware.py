"""The middleware around every request: target, headers, id, problems, log line."""

import logging
import random
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

import structlog
from aiohttp import web
from opentelemetry.trace import Span

from dingrelay_producers import logs
from dingrelay_producers.tracing import spans
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.problems import Problem, wanted_language
from dingrelay_workers.http.routes import CALLER, CONTEXT, ROUTE

ENDED = "request"

log: Any = structlog.get_logger("dingrelay.gateway")
"""One line a request: caller, route, outcome, duration. No bodies, no query, no paths."""


class Quiet(logging.LoggerAdapter[logging.Logger]):
    """aiohttp's own log: what it says of a request that it can't read quotes that request."""

    def process(self, msg: Any, kwargs: Any) -> tuple[Any, Any]:
        """The same with only the class of the exception."""
        error = kwargs.pop("exc_info", None)
        name = type(error).__name__ if isinstance(error, BaseException) else "an error"
        return f"a request can't be read: {name}", {**kwargs, "exc_info": None}

    def exception(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """Log at debug level: such requests are the callers' doing, and any number of them can come."""
        self.debug("%s", *args[:0], **kwargs)


PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that are polled every few seconds and would only clutter traces."""


def serving(request: web.Request) -> AbstractContextManager[Span]:
    """Around a request: the jobs that it enqueues belong to the trace."""
    trace = ""
    if spans.TRACEPARENT in request.headers:
        trace = spans.read(
            request.headers.getall(spans.TRACEPARENT),
            request.headers.getall(spans.TRACESTATE, []),
        )
    if request.path in PROBES or not spans.active():
        return spans.carried(trace)
    return spans.span("HTTP", "SERVER", parent=trace)


def served(span: Span, *, method: str, route: str, status: int, request_id: str) -> None:
    """Record the outcome of a request, and its route, which is not known before.

    Args:
        span: that of `serving`.
        method: of HTTP.
        route: the path with its parameters' names; empty where there is none.
        status: of the answer.
        request_id: as in the log.
    """
    span.update_name(f"{method} {route}" if route else "HTTP")
    span.set_attributes(
        {
            "http.request.method": method if route else "_OTHER",
            **({"http.route": route} if route else {}),
            "url.scheme": "http",
            "http.response.status_code": status,
            "dingrelay.request_id": request_id,
        }
    )
    if status >= 500:
        spans.fail(span, str(status))


REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
REQUEST_ID_HEADER = "X-Request-Id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TARGET = re.compile(r"/(?!/)[\x21-\x7e]*")
# Segments that a proxy before us and a server behind it may read differently.
_AMBIGUOUS = re.compile(
    r"(?:^|/|%2f)(?:\.|%2e){1,2}(?:/|%2f|%5c|\\|$)|%2f|%5c|\\|%00", re.IGNORECASE
)
ONCE_ONLY = (
    "Host",
    "Authorization",
    "Content-Length",
    "Content-Type",
    "Content-Encoding",
    "Transfer-Encoding",
    "Idempotency-Key",
    "Expect",
    REQUEST_ID_HEADER,
)
"""Headers that two programs on the way may each take another one of, if there are two."""

CLIENT_LEFT = 499
"""Status in the log only: the client had gone before the answer."""

_KIND_OF_STATUS = {
    kind.status: kind
    for kind in (
        problems.MALFORMED,
        problems.NOT_FOUND,
        problems.METHOD_NOT_ALLOWED,
        problems.TOO_LARGE,
        problems.UNSUPPORTED,
    )
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def request_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Around every route, and around requests for which there is none."""
    request[REQUEST_ID] = request_id = _request_id(request)
    metrics = request.app[CONTEXT].metrics
    began = monotonic()
    metrics.in_flight.inc()
    status = CLIENT_LEFT
    with serving(request) as span:
        try:
            response = await _answer(request, handler, request_id)
            status = response.status
        finally:
            metrics.in_flight.dec()
            seconds = monotonic() - began
            route = request.get(ROUTE) or _template(request)
            method = request.method if route else "any"
            metrics.ended(method, route or "none", status, seconds)
            served(span, method=method, route=route, status=status, request_id=request_id)
            log.info(
                ENDED,
                key=request.get(CALLER, ""),
                request_id=request_id,
                method=request.method if route else request.method[:16],
                route=route or "none",
                status=status,
                ms=round(seconds * 1000, 1),
                **spans.ids(),
            )
    return response


async def _answer(request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response(request_id, wanted_language(request))
    except web.HTTPException as error:
        return _from_aiohttp(error, request.path).response(request_id, wanted_language(request))
    except ConnectionError:
        raise
    except Exception as error:  # noqa: BLE001 - the caller gets no details of any failure
        # The class and the place: an exception's text may hold what the caller sent.
        name, at = type(error).__name__, logs.places(error)
        log.error("failed", request_id=request_id, error=name, at=at)  # noqa: TRY400
        detail = en("the gateway failed; its log has more under this request id")
        return Problem(problems.INTERNAL, detail).response(request_id, wanted_language(request))


def _request_id(request: web.Request) -> str:
    """The caller's own, if it is one that a log can hold."""
    request_id = request.headers.get(REQUEST_ID_HEADER, "")
    return request_id if _REQUEST_ID.fullmatch(request_id) else f"{random.getrandbits(128):032x}"


def _template(request: web.Request) -> str:
    """The path of the route with its parameters' names; empty where there is none."""
    resource = request.match_info.route.resource
    return resource.canonical if resource else ""


def check_head(request: web.Request) -> None:
    """Refuse targets and headers that two programs on the way may read differently.

    Raises:
        Problem: the target is no plain path, but an absolute form, ``//host`` or one with ``..``; or a header is there
            twice, or contradicts another.
    """
    target = request.raw_path
    path = target.partition("?")[0]
    if not _TARGET.fullmatch(target) or _AMBIGUOUS.search(path):
        raise Problem(problems.MALFORMED, "the target must be a plain, normalised path")
    for name in ONCE_ONLY:
        if len(request.headers.getall(name, ())) > 1:
            raise Problem(problems.MALFORMED, en("{}: is given more than once", name))
    if "Transfer-Encoding" in request.headers and "Content-Length" in request.headers:
        raise Problem(problems.MALFORMED, "Content-Length: contradicts Transfer-Encoding")


def _from_aiohttp(error: web.HTTPException, path: str) -> Problem:
    kind = _KIND_OF_STATUS.get(error.status, problems.INTERNAL)
    headers = {name: value for name, value in error.headers.items() if name == "Allow"}
    detail = en("no such path") if kind is problems.NOT_FOUND else kind.title
    if isinstance(error, web.HTTPMethodNotAllowed):
        detail = en("this path takes {}", ", ".join(sorted(error.allowed_methods)))
    if path == "/metrics":
        detail = en("metrics are on DINGRELAY_METRICS_PORT, not on this port")
    return Problem(kind, detail, headers=headers)


async def sign(request: web.Request, response: web.StreamResponse) -> None:
    """Give every answer the request's id, and what keeps browsers from guessing.

    While the gateway stops, each answer is the last one on its connection.
    """
    headers = response.headers
    if request.app[CONTEXT].stopping.is_set():
        response.force_close()
        headers["Connection"] = "close"
    headers[REQUEST_ID_HEADER] = request.get(REQUEST_ID, "")
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    headers["Server"] = "dingrelay"
