"""The span of telling an endpoint of a notice.

It belongs to the trace in which that happened, which the receiver carries on: one trace leads from who
asked for a job to who hears of its end.
"""

from collections.abc import Generator
from contextlib import contextmanager
from urllib.parse import urlsplit

from opentelemetry.trace import Span

from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks.endpoints import StoredEndpoint
from dingrelay_workers.webhooks.http import Receipt
from dingrelay_workers.webhooks.request import celery_target


@contextmanager
def delivering(endpoint: StoredEndpoint, notice: Notice) -> Generator[Span]:
    """Around a request to an endpoint, or a task for it: it carries the trace of the span.

    Where no spans are made that is the notice's own, handed on as it came.
    """
    by_http = celery_target(endpoint.endpoint.url) is None
    with spans.span(
        "POST webhook" if by_http else f"send {notice.type}",
        "CLIENT" if by_http else "PRODUCER",
        parent=notice.trace or None,
        attributes=lambda: _attributes(endpoint, notice, by_http=by_http),
    ) as span:
        yield span


def delivered(span: Span, receipt: Receipt) -> None:
    """Tell what came of it."""
    if receipt.status:
        span.set_attributes({"http.response.status_code": receipt.status})
    if receipt.verdict != "taken":
        spans.fail(span, receipt.code)


def _attributes(endpoint: StoredEndpoint, notice: Notice, *, by_http: bool) -> Attributes:
    """The span's attributes of an endpoint: not its URL, which may hold a secret."""
    attributes: dict[str, str | int | float | bool] = {
        "dingrelay.endpoint": endpoint.id,
        "dingrelay.notice": notice.id,
        "dingrelay.notice_type": notice.type,
        "dingrelay.app": notice.app,
    }
    if by_http:
        attributes["http.request.method"] = "POST"
        attributes["server.address"] = urlsplit(endpoint.endpoint.url).hostname or ""
    else:
        attributes["messaging.system"] = "celery"
        attributes["messaging.operation.type"] = "send"
    return attributes
