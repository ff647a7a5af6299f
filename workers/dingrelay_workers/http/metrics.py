"""Prometheus metrics of a gateway process."""

from collections.abc import Iterable
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from dingrelay_producers.events.receiver import EventMetrics
from dingrelay_producers.metrics_server import new_registry
from dingrelay_producers.store.record import Draft

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


ALERTING_REASONS = ("signature", "encryption")
"""An alert counts them. Prometheus sees how a series grows and not that it is born, so they begin at 0."""


class GatewayMetrics:
    """The metrics of one process.

    Labels hold route templates, never paths: callers can't multiply the series.

    Args:
        apps: those whose callbacks are taken here.
    """

    def __init__(self, apps: Iterable[str] = ()) -> None:
        self.registry = new_registry()
        self.requests = Counter(
            "dingrelay_gateway_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "dingrelay_gateway_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["method", "route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "dingrelay_gateway_requests_in_flight",
            "Requests under way.",
            registry=self.registry,
        )
        self.jobs = Counter(
            "dingrelay_gateway_jobs",
            "Jobs accepted, those that were known already not included.",
            ["kind", "lane"],
            registry=self.registry,
        )
        self.unpublished = Gauge(
            "dingrelay_gateway_unpublished_wakeups",
            "Wake-ups of accepted jobs that wait for the broker.",
            registry=self.registry,
        )
        self.server_away = Gauge(
            "dingrelay_gateway_server_away",
            "1 if a server does not answer this gateway.",
            ["server"],
            registry=self.registry,
        )

        self.events = EventMetrics(self.registry, "http")
        self.callbacks_refused = Counter(
            "dingrelay_callbacks_refused",
            "Pushes that were not DingTalk's, by what was wrong.",
            ["app", "reason"],
            registry=self.registry,
        )
        for app in apps:
            self.events.know(app)
            for reason in ALERTING_REASONS:
                self.callbacks_refused.labels(app, reason)

        # `labels` takes a lock and spells its values at each call.
        self._requests = cache(self.requests.labels)
        self._seconds = cache(self.seconds.labels)
        self._jobs = cache(self.jobs.labels)

    def accepted(self, drafts: Iterable[Draft]) -> None:
        """These jobs were accepted."""
        labels = [(draft.kind, draft.lane) for draft in drafts]
        for kind, lane in set(labels):
            self._jobs(kind, lane).inc(labels.count((kind, lane)))

    def ended(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests(method, route, status).inc()
        self._seconds(method, route).observe(seconds)
