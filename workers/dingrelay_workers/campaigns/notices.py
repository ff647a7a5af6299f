"""Notices of campaigns: how they move from state to state."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice

_ENTERED = {
    State.PAUSED: "campaign.paused",
    State.DRAFT: "campaign.paused",  # an approval is missing
    State.DONE: "campaign.completed",
    State.CANCELLED: "campaign.cancelled",
}

_SHOWN = (
    "id",
    "name",
    "app",
    "sender",
    "state",
    "reason",
    "recipients",
    "accepted",
    "left_out",
    "failed",
    "calls",
)
"""Columns of a campaign that say what it is and how far it has come: counts of people, and of calls."""


async def write(connection: AsyncConnection, campaign: str, before: str, at: datetime) -> None:
    """Write the notice of a campaign whose row has its new state already."""
    columns = [getattr(CampaignRow, name) for name in _SHOWN]
    row = (
        (await connection.execute(select(*columns).where(CampaignRow.id == campaign)))
        .mappings()
        .one()
    )
    started = "campaign.started" if before == State.DRAFT else "campaign.resumed"
    what = _ENTERED.get(State(row["state"]), started)
    notice = Notice(type=what, app=row["app"], at=at, data=dict(row), sender=row["sender"])
    await outbox.write(connection, [notice])
