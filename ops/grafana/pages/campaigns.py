"""Campaigns: how far they are, and what became of each recipient."""

from dashboard import Dashboard, Panel
from pages.shared import QUOTA
from promql import APP, highest, quantile, rate

CAMPAIGNS = Dashboard(
    "dingrelay-campaigns",
    "dingrelay: campaigns",
    [
        Panel(
            "Campaigns",
            "That run or are paused.",
            "short",
            [highest("dingrelay_campaigns", "app, state", APP)],
        ),
        Panel(
            "People to go",
            "Of these campaigns, who have neither been sent to nor left out.",
            "short",
            [highest("dingrelay_campaign_people_left", "app, state", APP)],
        ),
        Panel(
            "People by outcome",
            "A second. DingTalk has taken the call for those that are accepted.",
            "ops",
            [rate("dingrelay_campaign_recipients_total", "app, outcome", APP)],
            stacked=True,
        ),
        Panel(
            "Through in",
            "What runs, at the rate of the last five minutes.",
            "s",
            [
                highest("dingrelay_campaign_people_left", "app", f'{APP}, state="running"')
                + f" / (sum by (app) (rate(dingrelay_campaign_recipients_total{{{APP}}}[5m])) > 0)"
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
            [quantile("dingrelay_job_seconds", "kind", 'kind=~"campaign-.*"')],
        ),
        Panel(
            "Calls that send messages, by verdict",
            "A second, with those of single messages.",
            "reqps",
            [rate("dingrelay_calls_total", "verdict", f'{APP}, api="message.send"')],
            stacked=True,
        ),
        Panel(
            "Who carries campaigns on",
            "Seconds since one last did.",
            "s",
            ['min by (cell, role) (dingrelay_lead_idle_seconds{role="campaigns"})'],
        ),
        QUOTA,
    ],
)
