"""Prometheus metrics of a worker process. Names of states and classes are those of the records."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dingrelay_producers.store import clock
from dingrelay_tasks.contract import LANES
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.limiter.breakers import BreakerState
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.quota import PUSHES

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
MESSAGES_REFUSED = Counter(
    "dingrelay_messages_refused_total",
    "Texts in our queues that are no message for us, or name a task that there is not.",
)
CAMPAIGN_RECIPIENTS = Counter(
    "dingrelay_campaign_recipients_total",
    "People of campaigns by outcome: accepted, left_out, failed or cancelled.",
    ["app", "outcome"],
)
WEBHOOKS = Counter(
    "dingrelay_webhooks_total",
    "Attempts to deliver a notice to an endpoint, by verdict and code.",
    ["verdict", "code"],
)
WEBHOOK_SECONDS = Histogram(
    "dingrelay_webhook_seconds", "One attempt, in seconds.", buckets=_CALL_BUCKETS
)
WEBHOOK_BREAKERS = Counter(
    "dingrelay_webhook_breakers_total", "Breakers of endpoints that this process saw open."
)
WEBHOOK_ENDPOINTS_DISABLED = Counter(
    "dingrelay_webhook_endpoints_disabled_total",
    "Endpoints that were disabled since they answered 410 or accepted nothing for days.",
)
WEBHOOK_FAILING_SECONDS = Gauge(
    "dingrelay_webhook_failing_seconds",
    "For how long an endpoint has accepted nothing, in the process that dispatches notices; 0: it accepts.",
    ["endpoint"],
)
WEBHOOK_DELIVERIES = Gauge(
    "dingrelay_webhook_deliveries",
    "Deliveries of an endpoint that are pending, in the process that dispatches notices.",
    ["endpoint"],
)
WEBHOOK_LAG_SECONDS = Gauge(
    "dingrelay_webhook_lag_seconds",
    "Age of the oldest end of a job that is not passed on, in the process that does so.",
)
NOTICES_MISSED = Counter(
    "dingrelay_notices_missed_total",
    "Notices that were lost: too many jobs ended while no worker served webhooks, an endpoint was away "
    "for longer than notices are kept, or refused one for days while it accepted others.",
    ["cause"],
)
HISTORY_WRITTEN = Counter(
    "dingrelay_history_written_total", "Ends of jobs that were written to the history in SQL."
)
HISTORY_MISSED = Counter(
    "dingrelay_history_missed_total",
    "Jobs that are not in the history: too many ended while the database was away.",
)
RECIPIENTS_LEFT_OUT = Counter(
    "dingrelay_recipients_left_out_total",
    "People who were not sent to: unknown_user or out_of_scope.",
    ["app", "reason"],
)
CAMPAIGNS_PAUSED = Counter(
    "dingrelay_campaigns_paused_total", "Campaigns that paused themselves, as seen by this process."
)
CAMPAIGN_CHUNKS = Gauge(
    "dingrelay_campaign_chunks",
    "Chunks of campaigns that are under way, in the process that carries campaigns on.",
)
EVENTS_MISSED = Counter(
    "dingrelay_events_missed_total",
    "Events that DingTalk could not push over HTTP, and that were read from its list.",
    ["app"],
)
REDIS_REACHABLE = Gauge(
    "dingrelay_redis_reachable", "1: Redis answered this process at its last look; 0: it did not."
)
LEAD_IDLE_SECONDS = Gauge(
    "dingrelay_lead_idle_seconds",
    "Since this process last carried on the work of which one process does all, or was started. "
    "The smallest of all processes is how long the work stands still.",
    ["role"],
)


class Limits(Collector):
    """The fleet's buckets as they were last read; every process shows the same.

    Attributes:
        states: of the buckets. Each reading replaces them as a whole.
        breakers: those that stand open, likewise.
    """

    def __init__(self) -> None:
        self.states: Sequence[BucketState] = ()
        self.breakers: Sequence[BreakerState] = ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One family a figure; a bucket is left out where it has no such figure."""
        now = clock.now()

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
                "waiting_jobs",
                "Jobs that are parked, of all lanes and senders.",
                [state.waiting if state.unit == "calls" else None for state in self.states],
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
        longest: dict[tuple[str, str], float] = {}
        for breaker in self.breakers:
            # Credentials, old and new ones, get no label: the app does.
            kind, _, app = breaker.scope.partition(":")
            place = breaker.scope, app if kind == "hold" else breaker.name
            open_for = max(0.001, (now - breaker.opened_at).total_seconds())
            longest[place] = max(open_for, longest.get(place, 0.0))
        for place, open_for in longest.items():
            breakers.add_metric(place, open_for)
        yield breakers


Series = Mapping[str, Sequence[tuple[Sequence[str], float]]]
"""A family → its series: the values of its labels, and the figure."""


class Shown(Collector):
    """Figures that are read somewhere, as they were last read.

    Args:
        families: name → what it counts, and its labels.

    Attributes:
        series: each reading replaces them as a whole.
    """

    def __init__(self, families: Mapping[str, tuple[str, Sequence[str]]]) -> None:
        self._families = families
        self.series: Series = {}

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The families, also those without a series."""
        for name, (text, labels) in self._families.items():
            family = GaugeMetricFamily(f"dingrelay_{name}", text, labels=labels)
            for values, figure in self.series.get(name, ()):
                family.add_metric(values, figure)
            yield family


_OF_LANE, _OF_CAMPAIGNS = ("app", "lane"), ("app", "state")
_BOTH = (("calls", "Calls"), (PUSHES, "Webhook & Stream messages"))

LIMITS = Limits()
BACKLOG = Shown(
    {
        "backlog_jobs": (
            "Open jobs: ready, parked, snoozed, retrying, scheduled or running.",
            (*_OF_LANE, "state"),
        ),
        "backlog_oldest_seconds": (
            "For how long the oldest job waits that need not; scheduled jobs do not count.",
            _OF_LANE,
        ),
        "backlog_drain_seconds": (
            "Until what waits is through at the present rate; absent where that is not known.",
            _OF_LANE,
        ),
        "backlog_kind_jobs": (
            "Jobs of a kind that wait and need not; scheduled ones do not count.",
            ("kind",),
        ),
        "backlog_sender_jobs": (
            "The same by who asked, of those with most of them; the rest is together.",
            ("app", "sender"),
        ),
        "dead_jobs": (
            "Jobs that ended dead or unknown, and that were not requeued, discarded or resolved.",
            (),
        ),
        "fleet_workers": ("Workers that are there, as Redis knows them.", ()),
    }
    | {
        f"quota_used_{counts}": (f"{what} of this month.", ("organisation",))
        for counts, what in _BOTH
    }
    | {
        f"quota_limit_{counts}": (
            f"{what} that a month may have; absent where they are counted only.",
            ("organisation",),
        )
        for counts, what in _BOTH
    }
)
"""Waiting jobs and the month's calls; every process shows the same."""
CAMPAIGNS = Shown(
    {
        "campaigns": (
            "Campaigns that run or are paused, in the process that carries campaigns on.",
            _OF_CAMPAIGNS,
        ),
        "campaign_people_left": (
            "People of these campaigns that have not been dealt with.",
            _OF_CAMPAIGNS,
        ),
    }
)
REGISTRY.register(BACKLOG)
REGISTRY.register(CAMPAIGNS)
REGISTRY.register(LIMITS)


WORKER_LANE = Gauge(
    "dingrelay_worker_lane", "1: this process serves the lane. Absent: no process does.", ["lane"]
)

WORKER_APP = Gauge("dingrelay_worker_app", "1: this process has the app in its settings.", ["app"])

ENDS = ("done", "dead", "unknown")
"""Ends of jobs; the first dead or unknown one raises an alert."""
CAUSES_MISSED = ("ends of jobs", "endpoint away", "given up")
"""Causes of lost notices."""
OUTCOMES = ("accepted", "left_out", "failed", "cancelled")
"""Outcomes of people of campaigns."""
REASONS_LEFT_OUT = ("unknown_user", "out_of_scope")

OTHERS = "(others)"
"""Label of all others, which bounds the number of series; no name has such characters."""
UNNAMED = "(none)"
"""Senders that have no name."""

_STATUSES = {f"http_{status.value}" for status in HTTPStatus}


def webhook_code(code: str) -> str:
    """The result of an attempt as a label: a receiver may answer any number."""
    return code if code in _STATUSES or not code.startswith("http_") else "http_other"


def begin(queues: Sequence[str], apps: Collection[str]) -> None:
    """Show which queues and apps the process serves, and begin at 0 what is counted of them.

    Prometheus sees how a series grows, and not that it is born: the first dead job of a kind would
    raise no alert.
    """
    for queue in queues:
        WORKER_LANE.labels(queue.removeprefix("dingrelay.")).set(1)
    for kind in KINDS:
        for lane in LANES:
            JOB_SECONDS.labels(kind, lane)
            for state in ENDS:
                JOBS.labels(kind, lane, state)
    for cause in CAUSES_MISSED:
        NOTICES_MISSED.labels(cause)
    for app in apps:
        WORKER_APP.labels(app).set(1)
        TOKEN_FETCHES.labels(app)
        EVENTS_MISSED.labels(app)
        for outcome in OUTCOMES:
            CAMPAIGN_RECIPIENTS.labels(app, outcome)
        for reason in REASONS_LEFT_OUT:
            RECIPIENTS_LEFT_OUT.labels(app, reason)
