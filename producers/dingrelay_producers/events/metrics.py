"""What is counted of events at a door, for Prometheus."""

from time import time
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

Door = Literal["http", "stream"]


class EventMetrics:
    """The events of one process.

    Args:
        registry: where the metrics are.
        door: how events come in.
    """

    def __init__(self, registry: CollectorRegistry, door: Door) -> None:
        self._door = door
        self._events = Counter(
            "dingrelay_events",
            "Events that became jobs; known: repeated deliveries.",
            ["app", "door", "outcome"],
            registry=registry,
        )
        self._not_taken = Counter(
            "dingrelay_events_not_taken",
            "Events that could not be accepted, and that DingTalk is asked to send again.",
            ["app", "door"],
            registry=registry,
        )
        self._newest = Gauge(
            "dingrelay_event_newest_timestamp_seconds",
            "When the newest event came, as Unix time.",
            ["app", "door"],
            registry=registry,
        )

    def taken(self, app: str, *, known: bool) -> None:
        """An event is a job."""
        self._events.labels(app, self._door, "known" if known else "taken").inc()
        self._newest.labels(app, self._door).set(time())

    def not_taken(self, app: str) -> None:
        """An event could not become a job."""
        self._not_taken.labels(app, self._door).inc()
