"""How a process shows its metrics to Prometheus, most of them on a port of all interfaces."""

import threading
from collections.abc import Callable

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from structlog.stdlib import get_logger

AGAIN = 5.0
"""Seconds between two tries for a port that is taken, such as by a process that ends its last jobs."""

# When each series was made would nearly double what Prometheus reads and keeps.
disable_created_metrics()  # type: ignore[no-untyped-call]  # prometheus_client has no types there

log = get_logger("dingrelay.metrics")


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures: alerts ask when it was started."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


def serve(port: int, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Serve the metrics; 0 serves none.

    Nothing stands still because a port is taken: that is one line in the log, and the metrics are
    served as soon as the port is free.

    Returns:
        A function that ends it, so that other metrics can be served afterwards.
    """
    serving = _Serving(port, registry)
    if port:
        serving.begin()
    return serving.end


class _Serving:
    """Serves metrics, or tries to."""

    def __init__(self, port: int, registry: CollectorRegistry) -> None:
        self._port = port
        self._registry = registry
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
            server, thread = start_http_server(self._port, registry=self._registry)
        except OSError as error:
            return error

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        self._close = close
        return None
