"""The span of one request to DingTalk, by OpenTelemetry's conventions for HTTP.

DingTalk itself gets no trace header: its handling of one is not documented, and our ids are
internal. The URL is recorded without its query, which holds the token in the old dialect.
"""

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from opentelemetry.trace import INVALID_SPAN, Span

from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_workers.dingtalk.apis import without_ids
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.request import Request

REQUEST_ID = "dingtalk.request_id"
_NONE: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
"""For each call of a process that makes no spans."""


@dataclass(slots=True)
class SharedCall:
    """The traces of a call that carries several jobs.

    Attributes:
        others: of the jobs that do not make it.
        trace: of the call itself, once it is being made.
    """

    others: Sequence[str]
    trace: str = ""


def calling(request: Request, host: str, others: Sequence[str]) -> AbstractContextManager[Span]:
    """Span around a request; an error of DingTalk's is recorded by its class and its code.

    Args:
        request: the request.
        host: the URL that its path is on.
        others: the traces of the jobs that share the call with the one that makes it.
    """
    return _around(request, host, others) if spans.active() else _NONE


@contextmanager
def _around(request: Request, host: str, others: Sequence[str]) -> Generator[Span]:
    api = request.api
    with spans.span(
        f"{api.method} {without_ids(api) or api.name}",
        "CLIENT",
        links=others,
        attributes=lambda: _of_request(request, host),
    ) as span:
        try:
            yield span
        except DingTalkError as error:
            spans.fail(span, error.name)
            span.set_attributes({"dingrelay.error.code": error.code})
            if error.request_id:
                span.set_attributes({REQUEST_ID: error.request_id})
            raise


def _of_request(request: Request, host: str) -> Attributes:
    api = request.api
    origin, address, port = _server(host)
    attributes: dict[str, str | int | float | bool] = {
        "http.request.method": api.method,
        "server.address": address,
        "server.port": port,
        "dingrelay.api": api.name,
    }
    if path := without_ids(api):
        attributes |= {"url.template": path, "url.full": origin + path}
    if request.recipients:
        attributes["dingrelay.recipients"] = request.recipients
    return attributes


@lru_cache(maxsize=8)
def _server(host: str) -> tuple[str, str, int]:
    """The host as a URL without a name or a password, its name, its port."""
    parts = urlsplit(host)
    address, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{address}:{port}", address, port
