"""Deliveries of webhooks: attempts, failing endpoints, lost notices."""

from dashboard import Dashboard, Panel
from promql import highest, hourly, rate

WEBHOOKS = Dashboard(
    "dingrelay-webhooks",
    "dingrelay: webhooks",
    [
        Panel(
            "Attempts by verdict and code",
            "A second.",
            "ops",
            [rate("dingrelay_webhooks_total", "verdict, code")],
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
            [highest("dingrelay_webhook_failing_seconds", "endpoint")],
        ),
        Panel(
            "Deliveries that are pending",
            "Those of a paused or disabled endpoint wait until it is resumed.",
            "short",
            [highest("dingrelay_webhook_deliveries", "endpoint")],
        ),
        Panel(
            "Ends of jobs wait to be passed on",
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
            [hourly("dingrelay_notices_missed_total", "cause")],
        ),
        Panel(
            "Who passes notices on",
            "Seconds since one last did.",
            "s",
            ['min by (cell, role) (dingrelay_lead_idle_seconds{role="webhooks"})'],
        ),
    ],
    by_app=False,
)
