"""Connections whose requests can't be read, or whose clients read nothing.

The former get a problem, too, which does not quote them; the latter are given up.
"""

import asyncio
import os
import socket
import uuid
from typing import cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dingrelay_producers.language import accepted
from dingrelay_producers.settings import SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.http import problems
from dingrelay_workers.http.middleware import ENDED, REQUEST_ID_HEADER, log
from dingrelay_workers.http.problems import Problem

BACKLOG = 1024
"""Connections that wait to be accepted."""
PORT = 8610
"""Default port of a gateway."""
SHUTDOWN_SECONDS = 10.0
"""Time for the requests under way when a gateway stops; containers are killed after 30."""
DINGTALKS = {
    "errcode": 400_002,
    "errmsg": "参数错误: 请求无法读取",
    "code": "invalidParameter",
    "message": "参数错误: 请求无法读取",
}
"""Members beside those of a problem, for programs that call DingTalk in either dialect: of a request that can't be read
the path is not known."""
UNREAD_SECONDS = 75.0
"""After which the connection of a client that does not read its answer is closed."""


class HttpConnection(RequestHandler):
    """aiohttp's own, but for what it says of a request that is no HTTP, and for its patience."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        super().connection_made(transport)
        client_socket: socket.socket | None = cast("asyncio.Transport", transport).get_extra_info(
            "socket"
        )
        if client_socket is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            # Nothing else ends a write to a client that does not read.
            timeout_ms = int(UNREAD_SECONDS * 1000)
            client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer, after which the connection is closed."""
        request_id = uuid.uuid4().hex
        log.info(
            ENDED,
            key="",
            request_id=request_id,
            method="",
            route="none",
            status=status,
            error=type(exc).__name__,
        )
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        kind = problems.MALFORMED if status == 400 else problems.INTERNAL
        problem = Problem(
            kind,
            "the request is no HTTP that can be read; a URL is percent-encoded (`curl -G --data-urlencode q=…`)",
        )
        # What the client would read is in the headers, which are not read.
        document = {**problem.fields(accepted(None)), "request_id": request_id, **DINGTALKS}
        response = problems.json_response(document, status=kind.status)
        response.content_type = problems.MEDIA_TYPE
        response.headers[REQUEST_ID_HEADER] = request_id
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's own, with our connections: it has no option for their class."""

    def __call__(self) -> RequestHandler:
        """A connection for a client that has just come."""
        connection = super().__call__()
        connection.__class__ = HttpConnection
        return connection


async def listen(runner: web.AppRunner, host: str, port: int) -> None:
    """Listen there; on ``::`` for IPv4, too.

    Raises:
        SettingsError: that can't be done.
    """
    try:
        if host == "::":  # asyncio would listen on IPv6 only
            both = socket.has_dualstack_ipv6()
            family = socket.AF_INET6 if both else socket.AF_INET
            bound = socket.create_server(("", port), family=family, dualstack_ipv6=both)
            await web.SockSite(runner, bound, backlog=BACKLOG).start()
        else:
            await web.TCPSite(runner, host, port, backlog=BACKLOG).start()
    except OSError as error:
        # asyncio puts a sentence of its own around that of the system.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise SettingsError(
            en("--host, --port: {}:{} can't be listened on: {}", host, port, why)
        ) from None


def url_of(runner: web.AppRunner) -> str:
    """The URL on which it listens."""
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
