"""The campaigns of one person."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, State
from dingrelay_workers.campaigns.people_index import chunks_of
from dingrelay_workers.campaigns.report import Result, result_of
from dingrelay_workers.database import database


@dataclass(frozen=True, slots=True)
class PersonCampaign:
    """A campaign with a given person among its recipients.

    Attributes:
        at: when DingTalk took the call; when the campaign was made, where it took none.
        result: its outcome for the person.
    """

    campaign: str
    app: str
    name: str
    sender: str
    at: datetime
    result: Result


async def campaigns_of(
    connection: AsyncConnection, user: str, *, app: str | None, most: int
) -> list[PersonCampaign]:
    """Campaigns to a person, the newest first; drafts are none yet.

    A campaign in which they are not costs the read of one page.
    """
    latest_first = CampaignRow.created_at.desc(), CampaignRow.id
    query = select(CampaignRow.id).where(CampaignRow.state.not_in([State.CREATING, State.DRAFT]))
    if app is not None:
        query = query.where(CampaignRow.app == app)
    names = (await connection.scalars(query.order_by(*latest_first))).all()
    found: list[PersonCampaign] = []
    for some in database.chunks(names):
        known = await chunks_of(connection, [user], some)
        # Those without an index may be to anybody.
        here = [name for name, numbers in known.items() if numbers != set()]
        rows = await connection.execute(
            select(CampaignRow.__table__).where(CampaignRow.id.in_(here)).order_by(*latest_first)
        )
        for row in rows.all():
            if len(found) == most:
                return found
            result = await _in_campaign(connection, row.id, known[row.id], user)
            if result is not None:
                at, outcome = result
                found.append(
                    PersonCampaign(
                        row.id, row.app, row.name, row.sender, at or row.created_at, outcome
                    )
                )
    return found


async def _in_campaign(
    connection: AsyncConnection, campaign: str, numbers: set[int] | None, user: str
) -> tuple[datetime | None, Result] | None:
    query = select(ChunkRow.__table__).where(ChunkRow.campaign == campaign)
    if numbers is not None:
        query = query.where(ChunkRow.number.in_(sorted(numbers)))
    else:  # an earlier version made no index
        query = query.where(ChunkRow.users.contains(user, autoescape=True))
    for chunk in (await connection.execute(query)).all():
        result = await result_of(connection, campaign, chunk, user)
        if result is not None:
            return chunk.called_at, result
    return None
