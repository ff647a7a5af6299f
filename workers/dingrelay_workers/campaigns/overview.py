"""How many campaigns there are that have not ended, for the metrics."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.metrics import OpenCampaigns


async def standing(connection: AsyncConnection) -> list[OpenCampaigns]:
    """Those that run or are paused, by application and state."""
    left = CampaignRow.recipients - CampaignRow.accepted - CampaignRow.left_out - CampaignRow.failed
    rows = await connection.execute(
        select(CampaignRow.app, CampaignRow.state, func.count(), func.sum(left))
        .where(CampaignRow.state.in_([State.RUNNING, State.PAUSED]))
        .group_by(CampaignRow.app, CampaignRow.state)
        .order_by(CampaignRow.app, CampaignRow.state)
    )
    return [OpenCampaigns(app, state, count, int(people)) for app, state, count, people in rows]
