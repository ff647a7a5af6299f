"""How a process shows its metrics to Prometheus, most of them on a port of all interfaces."""

import threading
import time

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


def serve(port: int, registry: CollectorRegistry = REGISTRY) -> None:
    """Serve the metrics; 0 serves none.

    Nothing stands still because a port is taken: that is one line in the log, and the metrics are
    served as soon as the port is free.
    """
    if not port:
        return
    error = _refused(port, registry)
    if error is None:
        return
    log.error("metrics_not_served", port=port, reason=error.strerror)
    threading.Thread(
        target=_serve_later, args=(port, registry), name="metrics", daemon=True
    ).start()


def _serve_later(port: int, registry: CollectorRegistry) -> None:
    while _refused(port, registry):
        time.sleep(AGAIN)
    log.info("metrics_served", port=port)


def _refused(port: int, registry: CollectorRegistry) -> OSError | None:
    """Why the port can't be had; None if it is served now."""
    try:
        start_http_server(port, registry=registry)
    except OSError as error:
        return error
    return None
