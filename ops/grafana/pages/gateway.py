"""The HTTP gateway's requests."""

from dashboard import Dashboard, Panel
from pages.shared import PROCESSES
from promql import highest, quantile, rate

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
            [rate("dingrelay_gateway_requests_total", "method, route")],
            stacked=True,
        ),
        Panel(
            "Answers by status",
            "A second. 499: nobody was there to be answered.",
            "reqps",
            [rate("dingrelay_gateway_requests_total", "status")],
            stacked=True,
        ),
        Panel(
            "From a request to the end of its answer, 95 %",
            "Those that wait for a job's end (`?wait=`) take as long as that.",
            "s",
            [quantile("dingrelay_gateway_request_seconds", "method, route")],
        ),
        Panel(
            "Requests under way",
            "Of each gateway.",
            "short",
            [highest("dingrelay_gateway_requests_in_flight", "instance")],
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
            [(f"({FAILED_REQUESTS} or vector(0)) / {ALL_REQUESTS}", "5xx")],
        ),
        Panel(
            "Accepted jobs",
            "A second, without those that were known already.",
            "ops",
            [rate("dingrelay_gateway_jobs_total", "kind, lane")],
            stacked=True,
        ),
        Panel(
            "Wake-ups that wait for the broker",
            "The jobs are accepted; the scheduler wakes them if this does not.",
            "short",
            [highest("dingrelay_gateway_unpublished_wakeups", "instance")],
            stacked=True,
        ),
        Panel(
            "Servers that are away",
            "1: a gateway does not reach it. `home` is what all cells share; without cells there is no name.",
            "short",
            [highest("dingrelay_gateway_server_away", "cell, server")],
            most=1,
        ),
        *PROCESSES,
    ],
    by_app=False,
)
