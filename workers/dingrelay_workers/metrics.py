"""What Prometheus sees of a worker process. Names of states and classes are those of the records."""

from prometheus_client import Counter, Gauge, Histogram, start_http_server

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
SWEPT = Counter("dingrelay_wakeups_total", "Wake-ups that this process's sweeper published.")
CAMPAIGN_RECIPIENTS = Counter(
    "dingrelay_campaign_recipients_total",
    "People of campaigns by outcome: accepted, left_out, failed or cancelled.",
    ["app", "outcome"],
)
CAMPAIGN_CHUNKS = Gauge("dingrelay_campaign_chunks", "Chunks of campaigns that are under way.")


def serve(port: int) -> None:
    """Serve the metrics on a port of all interfaces; 0 serves none."""
    if port:
        start_http_server(port)
