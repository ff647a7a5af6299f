"""Writes the dashboards of Grafana: `make dashboards`. Nobody edits the JSON by hand.

`$__rate_interval` is Grafana's: as long as it takes to see a rate at the chosen zoom.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SCHEMA_VERSION = 41
"""Of Grafana 12; an older Grafana refuses nothing of it that is used here."""
SOURCE = {"type": "prometheus", "uid": "prometheus"}
TAG = "dingrelay"
WIDTH, HEIGHT = 12, 8
"""Of a panel, in units of Grafana's grid, which is 24 wide."""

APP = 'app=~"$app"'
SCOPE = 'scope=~"(app|hold):($app)|egress:.*"'
"""Of limits and outages: those of a host and of an address concern all apps."""


@dataclass(frozen=True)
class Panel:
    """A graph.

    Attributes:
        title: what it shows.
        text: what one has to know to read it.
        unit: as Grafana names it.
        queries: expression and legend.
        stacked: whether the series are parts of a whole.
        most: the end of the scale; None where there is none.
    """

    title: str
    text: str
    unit: str
    queries: Sequence[tuple[str, str]]
    stacked: bool = False
    most: float | None = None

    def json(self, number: int) -> dict[str, Any]:
        """The panel at its place, by its number from 0 on."""
        defaults: dict[str, Any] = {
            "unit": self.unit,
            "min": 0,
            "custom": {
                "fillOpacity": 20 if self.stacked else 0,
                "stacking": {"mode": "normal" if self.stacked else "none"},
            },
        }
        if self.most is not None:
            defaults["max"] = self.most
        row, column = divmod(number, 2)
        return {
            "id": number + 1,
            "type": "timeseries",
            "title": self.title,
            "description": self.text,
            "datasource": SOURCE,
            "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": defaults, "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
            "targets": [
                {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "refId": letter}
                for (expr, legend), letter in zip(self.queries, "ABCDEF", strict=False)
            ],
        }


@dataclass(frozen=True)
class Dashboard:
    """A page of graphs; its file is named like it.

    Attributes:
        name: of the file, and in the URL.
        title: what Grafana lists.
        panels: from the left to the right, two in a row.
        by_app: whether one may choose apps.
    """

    name: str
    title: str
    panels: Sequence[Panel]
    by_app: bool = True

    def json(self) -> dict[str, Any]:
        """The page as Grafana reads it."""
        return {
            "uid": self.name,
            "title": self.title,
            "tags": [TAG],
            "timezone": "browser",
            "schemaVersion": SCHEMA_VERSION,
            "version": 1,
            "refresh": "10s",
            "time": {"from": "now-1h", "to": "now"},
            "graphTooltip": 1,
            "links": [
                {
                    "type": "dashboards",
                    "title": "dingrelay",
                    "tags": [TAG],
                    "asDropdown": False,
                    "includeVars": True,
                    "keepTime": True,
                    "targetBlank": False,
                    "icon": "external link",
                    "tooltip": "",
                    "url": "",
                }
            ],
            "annotations": {"list": []},
            "templating": {"list": [_apps()] if self.by_app else []},
            "panels": [panel.json(number) for number, panel in enumerate(self.panels)],
        }


def _apps() -> dict[str, Any]:
    """The variable `$app`."""
    query = "label_values(dingrelay_worker_app, app)"
    return {
        "name": "app",
        "label": "app",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "app"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def rate(metric: str, by: str, labels: str = "") -> str:
    """A counter's growth a second."""
    return f"sum by ({by}) (rate({metric}{_of(labels)}[$__rate_interval]))"


def hourly(metric: str, by: str, labels: str = "") -> str:
    """A counter's growth in the last hour."""
    return f"sum by ({by}) (increase({metric}{_of(labels)}[1h]))"


def highest(metric: str, by: str, labels: str = "") -> str:
    """A gauge that several processes tell alike."""
    return f"max by ({by}) ({metric}{_of(labels)})"


def quantile(metric: str, by: str, labels: str = "") -> str:
    """The seconds within which 95 % are."""
    rates = f"rate({metric}_bucket{_of(labels)}[5m])"
    return f"histogram_quantile(0.95, sum by ({by}, le) ({rates}))"


def _of(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


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
    [(highest("dingrelay_limit_paused_seconds", "scope, api", SCOPE), "{{scope}} {{api}}")],
)
QUOTA = Panel(
    "The month's calls",
    "Share of the quota that is used; broadcasts stop at 90 %. Empty where [quota] is not set.",
    "percentunit",
    [
        (
            highest("dingrelay_quota_used_calls", "organisation")
            + " / "
            + highest("dingrelay_quota_limit_calls", "organisation"),
            "{{organisation}}",
        )
    ],
    most=1,
)
DEAD = Panel(
    "Jobs that ended dead or unknown, an hour",
    "They need a person: `dingrelay dead list`.",
    "short",
    [
        (
            hourly("dingrelay_jobs_total", "kind, state", 'state=~"dead|unknown"'),
            "{{kind}} {{state}}",
        )
    ],
    stacked=True,
)
VERDICTS = Panel(
    "Calls of DingTalk by verdict",
    "Calls a second over all APIs; throttled ones pause their API for the fleet.",
    "reqps",
    [(rate("dingrelay_calls_total", "verdict", APP), "{{verdict}}")],
    stacked=True,
)

OVERVIEW = Dashboard(
    "dingrelay",
    "dingrelay",
    [
        Panel(
            "Jobs by the state they led to",
            "Runs a second. dead and unknown need a person.",
            "ops",
            [(rate("dingrelay_jobs_total", "state"), "{{state}}")],
            stacked=True,
        ),
        VERDICTS,
        Panel(
            "From enqueue to the end, 95 %",
            "Urgent stays low while bulk waits for the limit.",
            "s",
            [(quantile("dingrelay_job_seconds", "lane"), "{{lane}}")],
        ),
        Panel(
            "DingTalk's answers, 95 %",
            "From a call to its answer, without the wait for the limits.",
            "s",
            [(quantile("dingrelay_call_seconds", "api"), "{{api}}")],
        ),
        Panel(
            "Calls a second by API",
            "DingTalk counts each API by itself.",
            "reqps",
            [(rate("dingrelay_calls_total", "api", APP), "{{api}}")],
        ),
        Panel(
            "Jobs running",
            "At most the concurrency of each worker.",
            "short",
            [(highest("dingrelay_jobs_running", "instance"), "{{instance}}")],
            stacked=True,
        ),
        Panel(
            "Jobs that nobody has dealt with",
            "They ended dead or unknown, and were neither requeued nor discarded nor resolved since.",
            "short",
            [("sum(max by (cell) (dingrelay_dead_jobs))", "dead or unknown")],
        ),
        DEAD,
        Panel(
            "People who were not sent to, an hour",
            "Since DingTalk knows nobody with their userid, or they do not see the app.",
            "short",
            [
                (
                    hourly("dingrelay_recipients_left_out_total", "app, reason", APP),
                    "{{app}} {{reason}}",
                )
            ],
        ),
        QUOTA,
        Panel(
            "Workers",
            "Those that Redis knows, those that Prometheus sees, and those of them that reach Redis.",
            "short",
            [
                ("sum(max by (cell) (dingrelay_fleet_workers))", "there"),
                ("count(dingrelay_redis_reachable)", "seen"),
                ("sum(dingrelay_redis_reachable)", "reach Redis"),
            ],
        ),
        Panel(
            "Workers of a lane",
            "A lane without one is served by nobody.",
            "short",
            [("count by (cell, lane) (dingrelay_worker_lane)", "{{cell}} {{lane}}")],
        ),
        Panel(
            "Work of which one worker does all",
            "Seconds since it last came on. It stands still if the database or Redis is away.",
            "s",
            [("min by (cell, role) (dingrelay_lead_idle_seconds)", "{{cell}} {{role}}")],
        ),
        Panel(
            "Token fetches and wake-ups, an hour",
            "A fleet fetches once in two hours for each app; the scheduler wakes parked jobs and replaces "
            "lost wake-ups.",
            "short",
            [
                (f"sum(increase(dingrelay_token_fetches_total{{{APP}}}[1h]))", "token fetches"),
                ("sum(increase(dingrelay_wakeups_total[1h]))", "wake-ups"),
            ],
        ),
        *PROCESSES,
    ],
)

QUEUES = Dashboard(
    "dingrelay-queues",
    "dingrelay: queues",
    [
        Panel(
            "Open jobs by what they wait for",
            "ready: for a worker. parked: for their turn at a limit. snoozed: for a delivery or the end of an "
            "outage. retrying: after a failure. scheduled: not due yet.",
            "short",
            [
                (
                    f"sum by (state) ({highest('dingrelay_backlog_jobs', 'app, lane, state', APP)})",
                    "{{state}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Jobs that wait, by lane",
            "Without those that run and those that are not due.",
            "short",
            [
                (
                    "sum by (app, lane) ("
                    + highest(
                        "dingrelay_backlog_jobs",
                        "app, lane, state",
                        f'{APP}, state=~"ready|parked|snoozed|retrying"',
                    )
                    + ")",
                    "{{app}} {{lane}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "The oldest that waits",
            "Since when; scheduled jobs do not count.",
            "s",
            [(highest("dingrelay_backlog_oldest_seconds", "app, lane", APP), "{{app}} {{lane}}")],
        ),
        Panel(
            "Through in",
            "At the present rate of the limits, behind the lanes that go first, if no others come. Empty where "
            "no worker serves the lane, or in an outage.",
            "s",
            [(highest("dingrelay_backlog_drain_seconds", "app, lane", APP), "{{app}} {{lane}}")],
        ),
        Panel(
            "Jobs that wait, by kind",
            "Of all apps.",
            "short",
            [
                (
                    f"sum by (kind) ({highest('dingrelay_backlog_kind_jobs', 'cell, kind')})",
                    "{{kind}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Jobs that wait, by sender",
            "The ten that have most, and all others together. Those of one lane share its rate evenly.",
            "short",
            [
                (
                    "sum by (app, sender) ("
                    + highest("dingrelay_backlog_sender_jobs", "cell, app, sender", APP)
                    + ")",
                    "{{app}} {{sender}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Ended jobs by lane",
            "A second.",
            "ops",
            [(rate("dingrelay_job_seconds_count", "lane"), "{{lane}}")],
        ),
        Panel(
            "From enqueue to the end, 95 %, by kind",
            "With all that a job waited for.",
            "s",
            [(quantile("dingrelay_job_seconds", "kind"), "{{kind}}")],
        ),
        DEAD,
        Panel(
            "Jobs running",
            "At most the concurrency of each worker.",
            "short",
            [(highest("dingrelay_jobs_running", "instance"), "{{instance}}")],
            stacked=True,
        ),
    ],
)

CAMPAIGNS = Dashboard(
    "dingrelay-campaigns",
    "dingrelay: campaigns",
    [
        Panel(
            "Campaigns",
            "That run or are paused.",
            "short",
            [(highest("dingrelay_campaigns", "app, state", APP), "{{app}} {{state}}")],
        ),
        Panel(
            "People to go",
            "Of these campaigns, who have neither been sent to nor left out.",
            "short",
            [(highest("dingrelay_campaign_people_left", "app, state", APP), "{{app}} {{state}}")],
        ),
        Panel(
            "People by outcome",
            "A second. DingTalk has taken the call for those that are accepted.",
            "ops",
            [
                (
                    rate("dingrelay_campaign_recipients_total", "app, outcome", APP),
                    "{{app}} {{outcome}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Through in",
            "What runs, at the rate of the last five minutes.",
            "s",
            [
                (
                    highest("dingrelay_campaign_people_left", "app", f'{APP}, state="running"')
                    + f" / (sum by (app) (rate(dingrelay_campaign_recipients_total{{{APP}}}[5m])) > 0)",
                    "{{app}}",
                )
            ],
        ),
        Panel(
            "Chunks under way",
            "Jobs of campaigns: one call each. They come in small portions, so that others get their turn.",
            "short",
            [("sum(max by (cell) (dingrelay_campaign_chunks))", "chunks")],
        ),
        Panel(
            "Campaigns that paused themselves, an hour",
            "Too many people failed, or DingTalk refuses more: `dingrelay campaign list` says why.",
            "short",
            [("sum(increase(dingrelay_campaigns_paused_total[1h]))", "paused")],
        ),
        Panel(
            "From a chunk's release to its end, 95 %",
            "With its wait for the limits.",
            "s",
            [(quantile("dingrelay_job_seconds", "kind", 'kind=~"campaign-.*"'), "{{kind}}")],
        ),
        Panel(
            "Calls that send messages, by verdict",
            "A second, with those of single messages.",
            "reqps",
            [
                (
                    rate("dingrelay_calls_total", "verdict", f'{APP}, api="message.send"'),
                    "{{verdict}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Who carries campaigns on",
            "Seconds since one last did.",
            "s",
            [
                (
                    'min by (cell, role) (dingrelay_lead_idle_seconds{role="campaigns"})',
                    "{{cell}} {{role}}",
                )
            ],
        ),
        QUOTA,
    ],
)

OUTAGES = Dashboard(
    "dingrelay-outages",
    "dingrelay: outages and holds",
    [
        Panel(
            "Outages",
            "For how long an API of an app, or a host, has not answered sanely. Empty is well.",
            "s",
            [
                (
                    highest(
                        "dingrelay_breaker_open_seconds",
                        "scope, name",
                        f'{SCOPE}, scope!~"hold:.*"',
                    ),
                    "{{scope}} {{name}}",
                )
            ],
        ),
        Panel(
            "Apps that are held",
            "For how long DingTalk has refused an app as a whole. Somebody must correct that. Empty is well.",
            "s",
            [
                (
                    highest("dingrelay_breaker_open_seconds", "scope", 'scope=~"hold:($app)"'),
                    "{{scope}}",
                )
            ],
        ),
        Panel(
            "Calls that DingTalk did not take, by verdict",
            "A second.",
            "reqps",
            [
                (
                    rate("dingrelay_calls_total", "app, verdict", f'{APP}, verdict!="ok"'),
                    "{{app}} {{verdict}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "The same by API",
            "A second.",
            "reqps",
            [
                (
                    rate("dingrelay_calls_total", "app, api", f'{APP}, verdict!="ok"'),
                    "{{app}} {{api}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Jobs that wait for the end of an outage, or for a delivery",
            "They spend no attempt, and go on by themselves.",
            "short",
            [
                (
                    highest("dingrelay_backlog_jobs", "app, lane", f'{APP}, state="snoozed"'),
                    "{{app}} {{lane}}",
                )
            ],
            stacked=True,
        ),
        PAUSES,
        DEAD,
        Panel(
            "DingTalk's answers, 95 %",
            "An outage often begins with slow answers.",
            "s",
            [(quantile("dingrelay_call_seconds", "api"), "{{api}}")],
        ),
        Panel(
            "Workers that reach Redis",
            "1: it answered at the last look.",
            "short",
            [(highest("dingrelay_redis_reachable", "instance"), "{{instance}}")],
        ),
        Panel(
            "Work of which one worker does all",
            "Seconds since it last came on. It stands still if the database or Redis is away.",
            "s",
            [("min by (cell, role) (dingrelay_lead_idle_seconds)", "{{cell}} {{role}}")],
        ),
    ],
)

LIMITS = Dashboard(
    "dingrelay-limits",
    "dingrelay: limits",
    [
        Panel(
            "Rate by now",
            "Units a second as a share of the limit.",
            "percentunit",
            [
                (
                    highest("dingrelay_limit_rate", "scope, api, unit", SCOPE)
                    + " / "
                    + highest("dingrelay_limit_per_second", "scope, api, unit", SCOPE),
                    "{{scope}} {{api}} {{unit}}",
                )
            ],
        ),
        Panel(
            "The limits",
            "Units a second, and beyond which the fleet was refused, where that is known.",
            "reqps",
            [
                (
                    highest("dingrelay_limit_per_second", "scope, api, unit", SCOPE),
                    "{{scope}} {{api}} {{unit}}",
                ),
                (
                    highest("dingrelay_limit_ceiling", "scope, api, unit", SCOPE),
                    "{{scope}} {{api}} {{unit}} ceiling",
                ),
            ],
        ),
        PAUSES,
        Panel(
            "Parked jobs",
            "They wait for their turn at a limit.",
            "short",
            [(highest("dingrelay_limit_waiting_jobs", "scope, api", SCOPE), "{{scope}} {{api}}")],
            stacked=True,
        ),
        Panel(
            "Parked jobs are through in",
            "At the present rate.",
            "s",
            [
                (
                    highest("dingrelay_limit_horizon_seconds", "scope, api", SCOPE),
                    "{{scope}} {{api}}",
                )
            ],
        ),
        Panel(
            "Throttling answers",
            "Since the bucket is there, of the whole fleet.",
            "short",
            [(highest("dingrelay_limit_throttles", "scope, api", SCOPE), "{{scope}} {{api}}")],
        ),
        Panel(
            "Wait for the limits, 95 %",
            "Before a call, in the hands of a worker; who would wait for longer is parked.",
            "s",
            [(quantile("dingrelay_limit_wait_seconds", "api, lane"), "{{api}} {{lane}}")],
        ),
        Panel(
            "Throttled calls",
            "Share of all. A storm is more than a fifth for five minutes.",
            "percentunit",
            [
                (
                    rate("dingrelay_calls_total", "app, api", f'{APP}, verdict="throttled"')
                    + " / "
                    + rate("dingrelay_calls_total", "app, api", APP),
                    "{{app}} {{api}}",
                )
            ],
        ),
        QUOTA,
        VERDICTS,
    ],
)

EVENTS = Dashboard(
    "dingrelay-events",
    "dingrelay: events",
    [
        Panel(
            "Events",
            "A second, by how they come in. known: told again. unreadable: lost.",
            "ops",
            [
                (
                    rate("dingrelay_events_total", "app, door, outcome", APP),
                    "{{app}} {{door}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "From the event to its job, 95 %",
            "By DingTalk's clock and ours.",
            "s",
            [(quantile("dingrelay_event_lag_seconds", "app, door", APP), "{{app}} {{door}}")],
        ),
        Panel(
            "Since the newest event",
            "It grows at night.",
            "s",
            [
                (
                    f"time() - {highest('dingrelay_event_newest_timestamp_seconds', 'app, door', APP)}",
                    "{{app}} {{door}}",
                )
            ],
        ),
        Panel(
            "Missed and asked for again, an hour",
            "missed: read from DingTalk's list of what it could not push. not taken: Redis was away, and DingTalk "
            "is to tell it again.",
            "short",
            [
                (hourly("dingrelay_events_missed_total", "app", APP), "{{app}} missed"),
                (
                    hourly("dingrelay_events_not_taken_total", "app, door", APP),
                    "{{app}} {{door}} not taken",
                ),
            ],
        ),
        Panel(
            "Connections to streams",
            "Each process of `dingrelay events` has one for each app; two while one is replaced.",
            "short",
            [(f"sum by (app) (dingrelay_stream_connections{{{APP}}})", "{{app}}")],
        ),
        Panel(
            "Tries to connect, an hour",
            "refused: the app's key or secret, or its subscription.",
            "short",
            [
                (
                    hourly("dingrelay_stream_connects_total", "app, outcome", APP),
                    "{{app}} {{outcome}}",
                )
            ],
        ),
        Panel(
            "Ends of connections, an hour",
            "silent: nothing came for too long. left: DingTalk had asked for that.",
            "short",
            [(hourly("dingrelay_stream_ends_total", "app, how", APP), "{{app}} {{how}}")],
        ),
        Panel(
            "Refused pushes, an hour",
            "What comes to a callback and is not DingTalk's, by what was wrong.",
            "short",
            [
                (
                    hourly("dingrelay_callbacks_refused_total", "app, reason", APP),
                    "{{app}} {{reason}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Jobs of events by the state they led to",
            "Runs a second.",
            "ops",
            [
                (
                    rate("dingrelay_jobs_total", "kind, state", 'kind=~"event|missed-events"'),
                    "{{kind}} {{state}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "From an event's job to its end, 95 %",
            "It asks DingTalk for the present state.",
            "s",
            [(quantile("dingrelay_job_seconds", "kind", 'kind="event"'), "{{kind}}")],
        ),
    ],
)

WEBHOOKS = Dashboard(
    "dingrelay-webhooks",
    "dingrelay: webhooks",
    [
        Panel(
            "Attempts by verdict and code",
            "A second.",
            "ops",
            [(rate("dingrelay_webhooks_total", "verdict, code"), "{{verdict}} {{code}}")],
            stacked=True,
        ),
        Panel(
            "An attempt, 95 %",
            "From the request to the answer.",
            "s",
            [
                (
                    "histogram_quantile(0.95, sum by (le) (rate(dingrelay_webhook_seconds_bucket[5m])))",
                    "attempt",
                )
            ],
        ),
        Panel(
            "Endpoints that take nothing",
            "For how long. 0: it accepts. After three days an endpoint is disabled.",
            "s",
            [(highest("dingrelay_webhook_failing_seconds", "endpoint"), "{{endpoint}}")],
        ),
        Panel(
            "Deliveries that have not ended",
            "A window of 100, and those that failed.",
            "short",
            [(highest("dingrelay_webhook_deliveries", "endpoint"), "{{endpoint}}")],
        ),
        Panel(
            "Notices wait to be passed on",
            "Age of the oldest one that was passed on just now.",
            "s",
            [(highest("dingrelay_webhook_lag_seconds", "cell"), "{{cell}} oldest")],
        ),
        Panel(
            "Endpoints out, an hour",
            "Breakers that opened after failures in a row, and endpoints that were disabled.",
            "short",
            [
                ("sum(increase(dingrelay_webhook_breakers_total[1h]))", "breakers opened"),
                ("sum(increase(dingrelay_webhook_endpoints_disabled_total[1h]))", "disabled"),
            ],
        ),
        Panel(
            "Lost notices, an hour",
            "By why.",
            "short",
            [(hourly("dingrelay_notices_missed_total", "cause"), "{{cause}}")],
        ),
        Panel(
            "Who passes notices on",
            "Seconds since one last did.",
            "s",
            [
                (
                    'min by (cell, role) (dingrelay_lead_idle_seconds{role="webhooks"})',
                    "{{cell}} {{role}}",
                )
            ],
        ),
    ],
    by_app=False,
)

ALL_REQUESTS = "sum(rate(dingrelay_gateway_requests_total[$__rate_interval]))"
FAILED_REQUESTS = ALL_REQUESTS.replace("[", '{status=~"5.."}[')
GATEWAY = Dashboard(
    "dingrelay-gateway",
    "dingrelay: gateway",
    [
        Panel(
            "Requests by route",
            "A second.",
            "reqps",
            [(rate("dingrelay_gateway_requests_total", "method, route"), "{{method}} {{route}}")],
            stacked=True,
        ),
        Panel(
            "Answers by status",
            "A second. 499: nobody was there to be answered.",
            "reqps",
            [(rate("dingrelay_gateway_requests_total", "status"), "{{status}}")],
            stacked=True,
        ),
        Panel(
            "From a request to the end of its answer, 95 %",
            "Those that wait for a job's end (`?wait=`) take as long as that.",
            "s",
            [
                (
                    quantile("dingrelay_gateway_request_seconds", "method, route"),
                    "{{method}} {{route}}",
                )
            ],
        ),
        Panel(
            "Requests under way",
            "Of each gateway.",
            "short",
            [(highest("dingrelay_gateway_requests_in_flight", "instance"), "{{instance}}")],
            stacked=True,
        ),
        Panel(
            "Refusals and failures by route",
            "A second. 401 and 403: key or scope; 409 and 422: the request; 429: the key's rate, or a full lane; 503: "
            "Redis or the database is away.",
            "reqps",
            [
                (
                    rate("dingrelay_gateway_requests_total", "route, status", 'status=~"[45].."'),
                    "{{status}} {{route}}",
                )
            ],
            stacked=True,
        ),
        Panel(
            "Failures",
            "Share of all requests that the gateway could not answer: Redis or the database is away.",
            "percentunit",
            [
                (
                    f"({FAILED_REQUESTS} or vector(0)) / {ALL_REQUESTS}",
                    "5xx",
                )
            ],
        ),
        Panel(
            "Accepted jobs",
            "A second, without those that were known already.",
            "ops",
            [(rate("dingrelay_gateway_jobs_total", "kind, lane"), "{{kind}} {{lane}}")],
            stacked=True,
        ),
        Panel(
            "Wake-ups that wait for the broker",
            "The jobs are accepted; the scheduler wakes them if this does not.",
            "short",
            [(highest("dingrelay_gateway_unpublished_wakeups", "instance"), "{{instance}}")],
            stacked=True,
        ),
        *PROCESSES,
    ],
    by_app=False,
)

ALL = (OVERVIEW, QUEUES, CAMPAIGNS, OUTAGES, LIMITS, EVENTS, WEBHOOKS, GATEWAY)


def texts() -> Iterator[tuple[Path, str]]:
    """Each file, and what belongs into it."""
    for dashboard in ALL:
        text = json.dumps(dashboard.json(), indent=2, ensure_ascii=False) + "\n"
        yield FOLDER / f"{dashboard.name}.json", text


if __name__ == "__main__":
    for path, text in texts():
        path.write_text(text, "utf-8")
