"""Panels that several dashboards have."""

from dashboard import Panel
from promql import APP, SCOPE, highest, hourly, rate

PROCESSES = (
    Panel(
        "Memory of a process",
        "It rises with the connections and jobs at once, and then stays.",
        "bytes",
        [('process_resident_memory_bytes{job="dingrelay"}', "{{instance}}")],
    ),
    Panel(
        "CPU of a process",
        "Of one core: a worker or gateway has one, and needs a second process beyond it.",
        "percentunit",
        [('rate(process_cpu_seconds_total{job="dingrelay"}[$__rate_interval])', "{{instance}}")],
    ),
)
PAUSES = Panel(
    "Pauses",
    "Seconds until a pause ends that DingTalk has asked for by a throttling answer.",
    "s",
    [highest("dingrelay_limit_paused_seconds", "scope, api", SCOPE)],
)
QUOTA = Panel(
    "The month's calls",
    "Share of the quota that is used; broadcasts stop at 90 %. Empty where [quota] is not set.",
    "percentunit",
    [
        highest("dingrelay_quota_used_calls", "organisation")
        + " / "
        + highest("dingrelay_quota_limit_calls", "organisation")
    ],
    most=1,
)
DEAD = Panel(
    "Jobs that ended dead or unknown, an hour",
    "They need a person: `dingrelay dead list`.",
    "short",
    [hourly("dingrelay_jobs_total", "kind, state", 'state=~"dead|unknown"')],
    stacked=True,
)
VERDICTS = Panel(
    "Calls of DingTalk by verdict",
    "Calls a second over all APIs; throttled ones pause their API for the fleet.",
    "reqps",
    [rate("dingrelay_calls_total", "verdict", APP)],
    stacked=True,
)
