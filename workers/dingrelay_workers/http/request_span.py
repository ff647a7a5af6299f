"""The span of a request, in the trace of its caller where that names one."""

from contextlib import AbstractContextManager

from aiohttp import web
from opentelemetry.trace import Span

from dingrelay_producers.tracing import spans

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
