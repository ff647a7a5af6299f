"""Outages of DingTalk, and apps that are held."""

from dashboard import Dashboard, Panel
from pages.shared import DEAD, PAUSES
from promql import APP, SCOPE, highest, quantile, rate

OUTAGES = Dashboard(
    "dingrelay-outages",
    "dingrelay: outages and holds",
    [
        Panel(
            "Outages",
            "For how long an API of an app, or a host, has not answered sanely. Empty is well.",
            "s",
            [
                highest(
                    "dingrelay_breaker_open_seconds", "scope, name", f'{SCOPE}, scope!~"hold:.*"'
                )
            ],
        ),
        Panel(
            "Apps that are held",
            "For how long DingTalk has refused an app as a whole. Somebody must correct that. Empty is well.",
            "s",
            [highest("dingrelay_breaker_open_seconds", "scope", 'scope=~"hold:($app)"')],
        ),
        Panel(
            "Calls that DingTalk did not take, by verdict",
            "A second.",
            "reqps",
            [rate("dingrelay_calls_total", "app, verdict", f'{APP}, verdict!="ok"')],
            stacked=True,
        ),
        Panel(
            "The same by API",
            "A second.",
            "reqps",
            [rate("dingrelay_calls_total", "app, api", f'{APP}, verdict!="ok"')],
            stacked=True,
        ),
        Panel(
            "Jobs that wait for the end of an outage, or for a delivery",
            "They go on by themselves.",
            "short",
            [highest("dingrelay_backlog_jobs", "app, lane", f'{APP}, state="snoozed"')],
            stacked=True,
        ),
        PAUSES,
        DEAD,
        Panel(
            "DingTalk's answers, 95 %",
            "An outage often begins with slow answers.",
            "s",
            [quantile("dingrelay_call_seconds", "api")],
        ),
        Panel(
            "Workers that reach Redis",
            "1: it answered at the last look.",
            "short",
            [highest("dingrelay_redis_reachable", "instance")],
        ),
        Panel(
            "Work of which one worker does all",
            "Seconds since it last came on. It stands still if the database or Redis is away.",
            "s",
            ["min by (cell, role) (dingrelay_lead_idle_seconds)"],
        ),
    ],
)
