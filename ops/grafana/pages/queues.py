"""Jobs that wait: what for, since when, and when they will be through."""

from dashboard import Dashboard, Panel
from pages.shared import DEAD
from promql import APP, highest, quantile, rate

QUEUES = Dashboard(
    "dingrelay-queues",
    "dingrelay: queues",
    [
        Panel(
            "Open jobs by what they wait for",
            "ready: for a worker. parked: for their turn at a limit. snoozed: for a delivery or the end of an "
            "outage. retrying: after a failure. scheduled: not due yet.",
            "short",
            [f"sum by (state) ({highest('dingrelay_backlog_jobs', 'app, lane, state', APP)})"],
            stacked=True,
        ),
        Panel(
            "Jobs that wait, by lane",
            "Without those that run and those that are not due.",
            "short",
            [
                "sum by (app, lane) ("
                + highest(
                    "dingrelay_backlog_jobs",
                    "app, lane, state",
                    f'{APP}, state=~"ready|parked|snoozed|retrying"',
                )
                + ")"
            ],
            stacked=True,
        ),
        Panel(
            "The oldest that waits",
            "Since when; scheduled jobs do not count.",
            "s",
            [highest("dingrelay_backlog_oldest_seconds", "app, lane", APP)],
        ),
        Panel(
            "Through in",
            "At the present rate of the limits, behind the lanes that go first, if no others come. Empty where "
            "no worker serves the lane, or in an outage.",
            "s",
            [highest("dingrelay_backlog_drain_seconds", "app, lane", APP)],
        ),
        Panel(
            "Jobs that wait, by kind",
            "Of all apps.",
            "short",
            [f"sum by (kind) ({highest('dingrelay_backlog_kind_jobs', 'cell, kind')})"],
            stacked=True,
        ),
        Panel(
            "Jobs that wait, by sender",
            "The ten that have most, and all others together. Those of one lane share its rate evenly.",
            "short",
            [
                "sum by (app, sender) ("
                + highest("dingrelay_backlog_sender_jobs", "cell, app, sender", APP)
                + ")"
            ],
            stacked=True,
        ),
        Panel(
            "Ended jobs by lane", "A second.", "ops", [rate("dingrelay_job_seconds_count", "lane")]
        ),
        Panel(
            "From enqueue to the end, 95 %, by kind",
            "With all that a job waited for.",
            "s",
            [quantile("dingrelay_job_seconds", "kind")],
        ),
        DEAD,
        Panel(
            "Jobs running",
            "At most the concurrency of each worker.",
            "short",
            [highest("dingrelay_jobs_running", "instance")],
            stacked=True,
        ),
    ],
)
