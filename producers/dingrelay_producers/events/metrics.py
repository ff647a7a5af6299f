"""What is counted of events at a door, for Prometheus."""

from time import time
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from dingrelay_tasks.event import Event

Door = Literal["http", "stream"]
Outcome = Literal["taken", "known", "unreadable"]

LAG_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 3600)


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
            "Events that became jobs; known: repeated deliveries; unreadable: lost.",
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
        self._lag = Histogram(
            "dingrelay_event_lag_seconds",
            "From the event at DingTalk, by its clock, to the job, in seconds.",
            ["app", "door"],
            buckets=LAG_SECONDS,
            registry=registry,
        )

    def know(self, app: str) -> None:
        """Events of an app come in here: what is counted begins at 0.

        Prometheus sees how a series grows, and not that it is born.
        """
        for outcome in get_args(Outcome):
            self._events.labels(app, self._door, outcome)
        self._not_taken.labels(app, self._door)
        self._lag.labels(app, self._door)

    def taken(self, event: Event, *, known: bool) -> None:
        """An event is a job."""
        self._count(event.app, "known" if known else "taken")
        now = time()
        self._newest.labels(event.app, self._door).set(now)
        if event.born_at is not None and not known:
            self._lag.labels(event.app, self._door).observe(max(0.0, now - event.born_at / 1000))

    def unreadable(self, app: str) -> None:
        """An event is DingTalk's, and can't be a job."""
        self._count(app, "unreadable")

    def not_taken(self, app: str) -> None:
        """An event could not become a job."""
        self._not_taken.labels(app, self._door).inc()

    def _count(self, app: str, outcome: Outcome) -> None:
        self._events.labels(app, self._door, outcome).inc()
