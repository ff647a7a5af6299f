"""What a process that listens to streams counts, for Prometheus."""

from typing import get_args

from prometheus_client import Counter, Gauge

from dingrelay_producers.events.metrics import EventMetrics
from dingrelay_producers.metrics_server import new_registry
from dingrelay_producers.stream.connection import Ended

OUTCOMES = ("opened", "failed", "refused")
"""Of tries to open a connection."""


class StreamMetrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = new_registry()
        self.events = EventMetrics(self.registry, "stream")
        self._connections = Gauge(
            "dingrelay_stream_connections",
            "Connections to DingTalk's stream that are open.",
            ["app"],
            registry=self.registry,
        )
        self._connects = Counter(
            "dingrelay_stream_connects",
            "Tries to open a connection: opened, failed, or refused with the app's credentials.",
            ["app", "outcome"],
            registry=self.registry,
        )
        self._ends = Counter(
            "dingrelay_stream_ends",
            "Connections that ended, by how.",
            ["app", "how"],
            registry=self.registry,
        )

    def know(self, app: str) -> None:
        """There is such an app, without a connection so far."""
        self._connections.labels(app).set(0)
        self.events.know(app)
        for outcome in OUTCOMES:
            self._connects.labels(app, outcome)
        for how in get_args(Ended):
            self._ends.labels(app, how)

    def opened(self, app: str) -> None:
        """A connection is open."""
        self._connections.labels(app).inc()
        self._connects.labels(app, "opened").inc()

    def closed(self, app: str, how: str) -> None:
        """A connection is over."""
        self._connections.labels(app).dec()
        self._ends.labels(app, how).inc()

    def failed(self, app: str) -> None:
        """A connection could not be opened."""
        self._connects.labels(app, "failed").inc()

    def refused(self, app: str) -> None:
        """DingTalk refused the app."""
        self._connects.labels(app, "refused").inc()
