"""DingTalk's limits: how near they are, and what waits for them."""

from dashboard import Dashboard, Panel
from pages.shared import PAUSES, QUOTA, VERDICTS
from promql import APP, SCOPE, highest, quantile, rate

LIMITS = Dashboard(
    "dingrelay-limits",
    "dingrelay: limits",
    [
        Panel(
            "Rate by now",
            "Units a second as a share of the limit.",
            "percentunit",
            [
                highest("dingrelay_limit_rate", "scope, api, unit", SCOPE)
                + " / "
                + highest("dingrelay_limit_per_second", "scope, api, unit", SCOPE)
            ],
        ),
        Panel(
            "The limits",
            "Units a second, and beyond which the fleet was refused, where that is known.",
            "reqps",
            [
                highest("dingrelay_limit_per_second", "scope, api, unit", SCOPE),
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
            [highest("dingrelay_limit_waiting_jobs", "scope, api", SCOPE)],
            stacked=True,
        ),
        Panel(
            "Parked jobs are through in",
            "At the present rate.",
            "s",
            [highest("dingrelay_limit_horizon_seconds", "scope, api", SCOPE)],
        ),
        Panel(
            "Throttling answers",
            "Since the bucket is there, of the whole fleet.",
            "short",
            [highest("dingrelay_limit_throttles", "scope, api", SCOPE)],
        ),
        Panel(
            "Wait for the limits, 95 %",
            "Before a call, in the hands of a worker; who would wait for longer is parked.",
            "s",
            [quantile("dingrelay_limit_wait_seconds", "api, lane")],
        ),
        Panel(
            "Throttled calls",
            "Share of all. A storm is more than a fifth for five minutes.",
            "percentunit",
            [
                rate("dingrelay_calls_total", "app, api", f'{APP}, verdict="throttled"')
                + " / "
                + rate("dingrelay_calls_total", "app, api", APP)
            ],
        ),
        QUOTA,
        VERDICTS,
    ],
)
