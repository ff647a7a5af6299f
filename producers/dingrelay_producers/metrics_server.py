"""A process's port for Prometheus and for probes, on all interfaces: its metrics, whether its loop runs, what it reaches.

It opens before any server is asked, so that an outage of Redis or of the database ends no process that is starting.
"""

import asyncio
import socket
import socketserver
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    make_wsgi_app,
)
from structlog.stdlib import get_logger

from dingrelay_producers import readiness

AGAIN = 5.0
"""Seconds between two tries for a port that is taken, such as by a process that ends its last jobs."""
LOOP_SECONDS = 3.0
"""How long `/healthz` waits for the loop. Probes wait longer."""
READY_SECONDS = LOOP_SECONDS + readiness.CHECK_SECONDS
"""How long `/readyz` waits for it."""

# When each series was made would nearly double what Prometheus reads and keeps.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no types there

Away = Callable[[], Awaitable[Mapping[str, str]]]
"""Returns the servers that the process can't use, and why: see `readiness.away`."""

log = get_logger("dingrelay.metrics")


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures: alerts ask when it was started."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def serve(
    port: int,
    loop: asyncio.AbstractEventLoop,
    registry: CollectorRegistry = REGISTRY,
    away: Away | None = None,
) -> Callable[[], None]:
    """Serve `/healthz`, `/readyz`, and the metrics on all other paths; the port 0 serves nothing.

    Nothing stands still because a port is taken: that is one line in the log, and the metrics are
    served as soon as the port is free.

    Args:
        port: of all interfaces, IPv4 and IPv6.
        loop: what `/healthz` asks, and where the servers are asked.
        registry: the metrics.
        away: what `/readyz` asks.

    Returns:
        A function that ends it, so that other metrics can be served afterwards.
    """
    serving = _Serving(port, _app(loop, registry, away))
    if port:
        serving.begin()
    return serving.end


def _app(
    loop: asyncio.AbstractEventLoop, registry: CollectorRegistry, away: Away | None
) -> Callable[..., Any]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in {"/healthz", "/readyz"}:
            return metrics(environ, start_response)  # type: ignore[no-any-return]
        lines = [] if _runs(loop) else ["its event loop stands still"]
        if path == "/readyz" and away is not None and not lines:
            lines = [f"{server}: {reason}" for server, reason in _servers_away(loop, away).items()]
        status = "503 Service Unavailable" if lines else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{line}\n".encode() for line in (status[4:], *lines)]

    return app


def _servers_away(loop: asyncio.AbstractEventLoop, away: Away) -> Mapping[str, str]:
    """Await `away` on the loop; from another thread."""

    async def ask() -> Mapping[str, str]:
        return await away()

    return asyncio.run_coroutine_threadsafe(ask(), loop).result(READY_SECONDS)


def _runs(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a loop comes to a new callback; it does not in a call that blocks, or once it has ended."""
    came = threading.Event()
    try:
        loop.call_soon_threadsafe(came.set)
    except RuntimeError:  # it is closed
        return False
    return came.wait(LOOP_SECONDS)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the base class
        """Log no requests."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # The kernel may have been started without IPv6.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Its base class would ask the DNS for the name of this machine.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "", self.server_address[1]
        self.setup_environ()


class _Serving:
    """Serves metrics, or tries to."""

    def __init__(self, port: int, app: Callable[..., Any]) -> None:
        self._port = port
        self._app = app
        self._ended = threading.Event()
        self._close: Callable[[], None] | None = None

    def begin(self) -> None:
        error = self._refused()
        if error is None:
            return
        log.error("metrics_not_served", port=self._port, reason=error.strerror)
        threading.Thread(target=self._begin_later, name="metrics", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        if self._close is not None:
            self._close()

    def _begin_later(self) -> None:
        while not self._ended.wait(AGAIN):
            if self._refused() is None:
                log.info("metrics_served", port=self._port)
                return

    def _refused(self) -> OSError | None:
        """Why the port can't be had; None if it is served now."""
        try:
            server = _Server(("", self._port), _Handler)
        except OSError as error:
            return error
        server.set_app(self._app)
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._close = close
        return None
