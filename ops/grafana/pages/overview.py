"""The first page: is all well?"""

from dashboard import Dashboard, Panel
from pages.shared import DEAD, PROCESSES, QUOTA, VERDICTS
from promql import APP, highest, hourly, quantile, rate

OVERVIEW = Dashboard(
    "dingrelay",
    "dingrelay",
    [
        Panel(
            "Jobs by the state they led to",
            "Runs a second. dead and unknown need a person.",
            "ops",
            [rate("dingrelay_jobs_total", "state")],
            stacked=True,
        ),
        VERDICTS,
        Panel(
            "From enqueue to the end, 95 %",
            "Urgent stays low while bulk waits for the limit.",
            "s",
            [quantile("dingrelay_job_seconds", "lane")],
        ),
        Panel(
            "DingTalk's answers, 95 %",
            "From a call to its answer, without the wait for the limits.",
            "s",
            [quantile("dingrelay_call_seconds", "api")],
        ),
        Panel(
            "Calls a second by API",
            "DingTalk counts each API by itself.",
            "reqps",
            [rate("dingrelay_calls_total", "api", APP)],
        ),
        Panel(
            "Jobs running",
            "At most the concurrency of each worker.",
            "short",
            [highest("dingrelay_jobs_running", "instance")],
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
            [hourly("dingrelay_recipients_left_out_total", "app, reason", APP)],
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
            ["count by (cell, lane) (dingrelay_worker_lane)"],
        ),
        Panel(
            "Work of which one worker does all",
            "Seconds since it last came on. It stands still if the database or Redis is away.",
            "s",
            ["min by (cell, role) (dingrelay_lead_idle_seconds)"],
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
