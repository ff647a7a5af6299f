"""Cost of the jobs that follow from a verb of a campaign, in sentences."""

from dingrelay_producers.language import tr
from dingrelay_workers.campaigns.calls import FollowUpPlan
from dingrelay_workers.campaigns.estimate import Month


def month_text(used: int, limit: int | None, share: float | None, *, fits: bool) -> str:
    """The share of the month that calls take, in one sentence."""
    if limit is None:
        return tr("{used:,} calls are used, no limit is configured", used=used)
    line = tr(
        "{share:.1%} of {limit:,} calls; {used:,} are used", share=share, limit=limit, used=used
    )
    return line if fits else tr("{line}: it stops before it is through", line=line)


def plan_text(plan: FollowUpPlan, month: Month) -> str:
    """Cost of jobs about a campaign, in a sentence."""
    used = month_text(month.used, month.limit, month.share, fits=month.fits)
    fields = dict(plan)
    lines = [
        tr("calls of the campaign: {chunks:,}, to {people:,} people", **fields),
        tr("costs: {calls:,} calls: {month}", calls=plan.calls, month=used),
    ]
    if plan.under_way:
        lines.append(tr("of these, {under_way:,} are under way, and are waited for", **fields))
    if plan.repeated:
        repeated = tr(
            "{repeated:,} people are in calls that repeat a lost one: people who got that one keep the "
            "message, and the report names them",
            **fields,
        )
        lines.append(repeated)
    if plan.unknown:
        unknown = tr(
            "{unknown:,} people are in calls whose outcome is unknown, which can't be recalled",
            **fields,
        )
        lines.append(unknown)
    if plan.too_old:
        lines.append(tr("left alone: {too_old:,} calls that are older than 24 hours", **fields))
    return "\n".join(lines)
