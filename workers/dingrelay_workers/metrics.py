"""What Prometheus sees of a worker process. Names of states and classes are those of the records."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState

_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
_WAIT_BUCKETS = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_JOB_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600)

JOBS = Counter(
    "dingrelay_jobs_total", "Runs of jobs by the state they led to.", ["kind", "lane", "state"]
)
JOB_SECONDS = Histogram(
    "dingrelay_job_seconds",
    "From enqueue to the end, in seconds.",
    ["kind", "lane"],
    buckets=_JOB_BUCKETS,
)
RUNNING = Gauge("dingrelay_jobs_running", "Jobs that this process runs.")
CALLS = Counter(
    "dingrelay_calls_total",
    "Calls of DingTalk by verdict: ok, or the class of the error.",
    ["api", "app", "verdict"],
)
CALL_SECONDS = Histogram(
    "dingrelay_call_seconds", "One call of DingTalk, in seconds.", ["api"], buckets=_CALL_BUCKETS
)
LIMIT_WAIT_SECONDS = Histogram(
    "dingrelay_limit_wait_seconds",
    "Wait for the limits before a call, in seconds.",
    ["api", "lane"],
    buckets=_WAIT_BUCKETS,
)
TOKEN_FETCHES = Counter("dingrelay_token_fetches_total", "Token calls of this process.", ["app"])
WAKEUPS = Counter("dingrelay_wakeups_total", "Wake-ups that this process's scheduler published.")
CAMPAIGN_RECIPIENTS = Counter(
    "dingrelay_campaign_recipients_total",
    "People of campaigns by outcome: accepted, left_out, failed or cancelled.",
    ["app", "outcome"],
)
CAMPAIGN_CHUNKS = Gauge("dingrelay_campaign_chunks", "Chunks of campaigns that are under way.")


class Limits(Collector):
    """The fleet's buckets as they were last read; every process shows the same.

    Attributes:
        states: of the buckets. Whoever reads them replaces them as a whole.
        breakers: those that stand open, likewise.
    """

    def __init__(self) -> None:
        self.states: Sequence[BucketState] = ()
        self.breakers: Sequence[BreakerState] = ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a figure; a bucket is left out where it has no such figure."""
        now = datetime.now(UTC)

        def left(until: datetime | None) -> float:
            return max(0.0, (until - now).total_seconds()) if until else 0.0

        families: Sequence[tuple[str, str, list[float | None]]] = (
            (
                "per_second",
                "The limit as units a second.",
                [state.limit / state.window if state.limit else None for state in self.states],
            ),
            (
                "rate",
                "Units a second that may leave by now.",
                [state.rate if state.limit else None for state in self.states],
            ),
            (
                "ceiling",
                "Units a second beyond which calls were refused, where that is known.",
                [state.ceiling for state in self.states],
            ),
            (
                "paused_seconds",
                "What is left of a pause.",
                [left(state.paused_until) for state in self.states],
            ),
            (
                "throttles",
                "Throttling answers since the bucket is there.",
                [state.throttles for state in self.states],
            ),
            (
                "horizon_seconds",
                "Until the last parked job is due.",
                [left(state.horizon) for state in self.states],
            ),
        )
        for name, text, values in families:
            family = GaugeMetricFamily(
                f"dingrelay_limit_{name}", text, labels=["scope", "api", "unit"]
            )
            for state, value in zip(self.states, values, strict=True):
                if value is not None:
                    family.add_metric([state.scope, state.api, state.unit], value)
            yield family
        breakers = GaugeMetricFamily(
            "dingrelay_breaker_open_seconds",
            "Since an outage of an API or a host, or an app's hold, began.",
            labels=["scope", "name"],
        )
        for breaker in self.breakers:
            open_for = max(0.001, (now - breaker.opened_at).total_seconds())
            breakers.add_metric([breaker.scope, breaker.name], open_for)
        yield breakers


LIMITS = Limits()
REGISTRY.register(LIMITS)


def serve(port: int) -> None:
    """Serve the metrics on a port of all interfaces; 0 serves none."""
    if port:
        start_http_server(port)
