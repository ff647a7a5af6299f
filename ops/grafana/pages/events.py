"""DingTalk's events, by stream and by callback."""

from dashboard import Dashboard, Panel
from promql import APP, highest, hourly, quantile, rate

EVENTS = Dashboard(
    "dingrelay-events",
    "dingrelay: events",
    [
        Panel(
            "Events",
            "A second, by how they come in. known: sent again. unreadable: lost.",
            "ops",
            [rate("dingrelay_events_total", "app, door, outcome", APP)],
        ),
        Panel(
            "From the event to its job, 95 %",
            "By DingTalk's clock and ours.",
            "s",
            [quantile("dingrelay_event_lag_seconds", "app, door", APP)],
        ),
        Panel(
            "Since the newest event",
            "It grows at night.",
            "s",
            [f"time() - {highest('dingrelay_event_newest_timestamp_seconds', 'app, door', APP)}"],
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
            [f"sum by (app) (dingrelay_stream_connections{{{APP}}})"],
        ),
        Panel(
            "Tries to connect, an hour",
            "refused: the app's key or secret, or its subscription.",
            "short",
            [hourly("dingrelay_stream_connects_total", "app, outcome", APP)],
        ),
        Panel(
            "Ends of connections, an hour",
            "silent: nothing came for too long. left: DingTalk had asked for that.",
            "short",
            [hourly("dingrelay_stream_ends_total", "app, how", APP)],
        ),
        Panel(
            "Refused pushes, an hour",
            "What comes to a callback and is not DingTalk's, by what was wrong.",
            "short",
            [hourly("dingrelay_callbacks_refused_total", "app, reason", APP)],
            stacked=True,
        ),
        Panel(
            "Jobs of events by the state they led to",
            "Runs a second.",
            "ops",
            [rate("dingrelay_jobs_total", "kind, state", 'kind=~"event|missed-events"')],
            stacked=True,
        ),
        Panel(
            "From an event's job to its end, 95 %",
            "It asks DingTalk for the present state.",
            "s",
            [quantile("dingrelay_job_seconds", "kind", 'kind="event"')],
        ),
    ],
)
