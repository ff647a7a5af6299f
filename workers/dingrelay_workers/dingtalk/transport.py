"""HTTP to DingTalk: one request, one answer, one class of error.

DingTalk gets no trace header: its handling of one is not documented, and our ids are internal. The span of a request
has its URL without the query, which holds the token in the old dialect.
"""

import asyncio
import errno
import json
import os
import socket
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from opentelemetry.trace import INVALID_SPAN, Span

from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_producers.tls_trouble import tls_trouble
from dingrelay_producers.tracing import spans
from dingrelay_producers.tracing.spans import Attributes
from dingrelay_tasks.sentence import en
from dingrelay_workers.dingtalk.apis import Api, without_ids
from dingrelay_workers.dingtalk.classify import Classifier, request_id_of
from dingrelay_workers.dingtalk.clock import DingTalkClock, moment
from dingrelay_workers.dingtalk.errors import (
    UNREACHABLE,
    Ambiguous,
    DingTalkError,
    Permanent,
    Transient,
)
from dingrelay_workers.dingtalk.request import FileForm, Request

REQUEST_ID = "dingtalk.request_id"
_NONE: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
"""Stands for the span of each call in a process that makes none."""


@dataclass(slots=True)
class SharedCall:
    """A call that may carry several jobs.

    Attributes:
        others: traces of the jobs that do not make it.
        trace: of the call itself, once it is being made.
        leave_by: when it must be on its way for these jobs, by the monotonic clock.
    """

    others: Sequence[str]
    trace: str = ""
    leave_by: float = inf


def calling(request: Request, host: str, traces: Sequence[str]) -> AbstractContextManager[Span]:
    """Span around a request; an error of DingTalk's is recorded by its class and its code.

    Args:
        request: the request.
        host: the URL that its path is on.
        traces: the traces of the jobs that share the call with the one that makes it.
    """
    return _around(request, host, traces) if spans.active() else _NONE


@contextmanager
def _around(request: Request, host: str, traces: Sequence[str]) -> Generator[Span]:
    api = request.api
    with spans.span(
        f"{api.method} {without_ids(api) or api.name}",
        "CLIENT",
        links=traces,
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


CONNECT_TIMEOUT = 5.0
"""Seconds to open a connection. Until it is open nothing was sent."""
LARGEST_ANSWER = 10 * 1024 * 1024
"""Bytes of an answer that are read; DingTalk's pages are far smaller."""
TOO_MANY_FILES = "too_many_open_files"
"""Our code for a process that has no file descriptor left: no sign of DingTalk's health."""
DESCRIPTORS_ADVICE = en("Raise the limit of open files (ulimit -n, LimitNOFILE=), or lower -c.")
TOO_LARGE = "answer_too_large"
"""Our code for an answer that is larger."""

JSON = "application/json; charset=utf-8"
_HEADERS = {"Content-Type": JSON}

# Errors of aiohttp before the first byte of a request is on its way.
_BEFORE_SENDING = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
    aiohttp.InvalidURL,
)
# `json.dumps` would make an encoder at each call.
_JSON = json.JSONEncoder(ensure_ascii=False)


class TooLate(Exception):
    """The request may not leave any more, and has not."""


class _Unasked(aiohttp.ClientConnectionError):
    """Something came on a connection before anything was asked on it. Nothing was sent."""


class _Request(aiohttp.ClientRequest):
    """A request that leaves only where nothing waits that came unasked.

    aiohttp would take that for the answer, and it may be another call's.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        if conn.protocol is not None and conn.protocol.should_close:
            raise _Unasked
        return await super().send(conn)


class _Response(aiohttp.ClientResponse):
    """An answer. A request that is given up before it leaves this machine no more.

    A connection that is closed in order still delivers what was written to it, and after an outage of the network
    that may be when the job has expired, or was sent again.
    """

    def close(self) -> None:
        if self.connection is not None and self.connection.transport is not None:
            self.connection.transport.abort()
        super().close()


_AT_ONCE = struct.pack("ii", 1, 0)
"""Linger for 0 s: the kernel, too, drops what has not left when the connection or its process ends (socket(7))."""


def _socket(address: tuple[int, int, int, str, tuple[Any, ...]]) -> socket.socket:
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    return made


async def _on_another_connection(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Leave a connection alone on which something came unasked; aiohttp closes it."""
    while True:
        try:
            return await send(request)
        except _Unasked:
            continue


async def _once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Do not send again what got no answer: aiohttp would, unless it is a POST.

    The repeat would be a call without a slot, and after a change one too many.
    """
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise aiohttp.ClientConnectionError(type(error).__name__) from None


class _Body(aiohttp.BytesPayload):
    """A body of which not a byte leaves after `leave_by` (monotonic clock).

    A request without its body is none to DingTalk. Between the intent of a call and this moment the
    process may have been stopped, or a connection may have taken long to open.
    """

    def __init__(self, body: object, leave_by: float | None) -> None:
        if isinstance(body, FileForm):
            super().__init__(body.content, content_type=body.content_type)
        else:
            super().__init__(_JSON.encode(body).encode(), content_type=JSON)
        self._leave_by = leave_by
        self.late = False

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        self.late = self._leave_by is not None and time.monotonic() > self._leave_by
        if self.late:
            raise TooLate
        await super().write_with_length(writer, content_length)


class Transport:
    """Sends requests to both hosts of DingTalk.

    No exception text leaves this file with a URL in it: the old dialect carries the token there.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        classifier: Classifier,
        settings: Settings,
        clock: DingTalkClock | None = None,
    ) -> None:
        """Sends nothing yet; `clock` takes note of the time that answers show."""
        self.clock = clock
        self._session = session
        self._classifier = classifier
        self._hosts = {
            "oapi": settings.oapi_url.rstrip("/"),
            "rest": settings.api_url.rstrip("/"),
        }
        self._proxies = {dialect: proxy_for(url) for dialect, url in self._hosts.items()}

    @staticmethod
    def open_session(
        settings: Settings, connector: aiohttp.BaseConnector | None = None
    ) -> aiohttp.ClientSession:
        """The connections of one worker process; by TCP unless there is another connector."""
        return aiohttp.ClientSession(
            connector=connector
            or aiohttp.TCPConnector(limit=0, keepalive_timeout=30, socket_factory=_socket),
            timeout=aiohttp.ClientTimeout(
                total=settings.call_timeout, sock_connect=CONNECT_TIMEOUT
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            request_class=_Request,
            response_class=_Response,
            middlewares=(_once, _on_another_connection),
        )

    async def request(
        self,
        request: Request,
        token: str = "",
        *,
        leave_by: float | None = None,
        shared: SharedCall | None = None,
    ) -> dict[str, Any]:
        """DingTalk's answer to one request.

        Args:
            request: what is asked.
            token: the app's; empty for a request that fetches one.
            leave_by: when a request with a body must be on its way, by the monotonic clock.
            shared: the traces of several jobs whose call it is.

        Raises:
            DingTalkError: exactly one of its classes, whatever happens on the way.
            TooLate: it could not leave by then.
        """
        traces = shared.others if shared else ()
        with calling(request, self._hosts[request.api.dialect], traces) as span:
            if shared:
                shared.trace = spans.current()
            status, content, date = await self._exchange(request, token, leave_by)
            span.set_attributes({"http.response.status_code": status})
            answer = self._classifier.read(request.api, status, content, now=moment(date))
            if span.is_recording() and (request_id := request_id_of(answer)):
                span.set_attributes({REQUEST_ID: request_id})
            return answer

    async def _exchange(
        self, request: Request, token: str, leave_by: float | None
    ) -> tuple[int, bytes, str]:
        api, query, headers = request.api, request.query, _HEADERS
        if token:
            query, headers = request.parameters(token), {**_HEADERS, **request.headers(token)}
        data = None
        if request.body is not None:
            data = _Body(request.body, leave_by)
            headers = {**headers, "Content-Type": data.content_type}
        left_at = time.monotonic()
        try:
            async with self._session.request(
                api.method,
                self._hosts[api.dialect] + api.path,
                params=query,
                data=data,
                headers=headers,
                allow_redirects=False,
                proxy=self._proxies[api.dialect],
            ) as response:
                came, date = time.monotonic(), response.headers.get("Date", "")
                content = await _content(api, response.content)
                if self.clock and content.startswith(b"{"):  # a proxy's page has the proxy's time
                    self.clock.observe(api.dialect, date, sent=left_at, came=came)
                return response.status, content, date
        except _BEFORE_SENDING as error:
            raise _unsent(error) from None
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            if data is not None and data.late:
                raise TooLate from None
            raise _no_answer(api, error) from None


async def _content(api: Api, stream: aiohttp.StreamReader) -> bytes:
    """The whole answer, however many pieces it comes in.

    Raises:
        Ambiguous: it is too large, after a call that changes something: that was carried out.
        Transient: it is too large, and none that holds a token.
        Permanent: it is too large, after any other call.
    """
    content = bytearray()
    async for piece in stream.iter_any():
        content += piece
        if len(content) > LARGEST_ANSWER:
            message = en("the answer is larger than {} MB", LARGEST_ANSWER // 2**20)
            if api.name == "token":  # no job has a part in it
                raise Transient(TOO_LARGE, message, sick="way")
            meaning = Ambiguous if api.changes else Permanent
            hint = en("Ask for less at a time: a smaller page, or fewer fields.")
            raise meaning(TOO_LARGE, message, hint=hint)
    return bytes(content)


def _unsent(error: BaseException) -> Transient:
    """No connection, and why: it may be this process that has none left."""
    if _out_of_descriptors(error):
        problem = en("this process can open no more connections: out of file descriptors")
        return Transient(TOO_MANY_FILES, problem, hint=DESCRIPTORS_ADVICE)
    hint = en("Check the network, the proxy and DINGTALK_OAPI_URL / DINGTALK_API_URL.")
    problem = en("no connection to DingTalk ({})", type(error).__name__)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        problem = en("no connection to DingTalk: {}", tls_trouble(error.certificate_error))
        hint = en(
            "A proxy that decrypts signs with a CA of its own: name the file of all CAs, with it, in SSL_CERT_FILE."
        )
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        problem = en("no connection to DingTalk: the name of its host is unknown here")
    elif isinstance(error, aiohttp.ClientHttpProxyError):
        problem = en("no connection to DingTalk: the proxy answers {}", error.status)
    return Transient(UNREACHABLE, problem, hint=hint, sick="way")


def _out_of_descriptors(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return True
    try:  # the resolver gives another reason
        os.close(os.dup(2))
    except OSError:
        return True
    return False


def _no_answer(api: Api, error: BaseException) -> DingTalkError:
    """The request left, or may have; whether that matters depends on what it changes."""
    timeout = isinstance(error, asyncio.TimeoutError)
    code = "timeout" if timeout else "connection_lost"
    message = en("DingTalk's answer did not arrive ({})", type(error).__name__)
    meaning = Ambiguous if api.changes else Transient
    return meaning(code, message, sick="way")
