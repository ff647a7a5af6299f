"""When a campaign may send, and how many chunks its rate lets go."""

from datetime import datetime

from dingrelay_workers.campaigns.chunks import Campaign
from dingrelay_workers.campaigns.quiet import QuietHours
from dingrelay_workers.campaigns.window import Allowance


def may_send(campaign: Campaign, now: datetime) -> bool:
    """Whether its time has come, outside of its quiet hours."""
    if campaign.start_at is not None and now < campaign.start_at:
        return False
    return QuietHours.parse(campaign.quiet).ends(now) is None


def allowance(campaign: Campaign, now: datetime) -> Allowance:
    """What its rate lets it send, a rate being there."""
    return Allowance(campaign.rate_credit, campaign.rate_at or now).later(campaign.rate or 0, now)


def allowed(campaign: Campaign, now: datetime, most: int, under_way: int) -> int:
    """How many chunks its rate lets go, `most` at most."""
    if campaign.rate is None:
        return most
    size = campaign.chunk_size
    return min(most, allowance(campaign, now).chunks(campaign.rate, size, under_way))
