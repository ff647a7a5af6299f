"""The lease of the process that writes a campaign's chunks.

Each transaction of the process renews it, by the database's clock. Once it has run out, the process has died or stands
still: another one may write the campaign again, and the leader deletes what was written of it.
"""

import uuid

from sqlalchemy import BindParameter, ColumnElement, and_, or_, text
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import CampaignConflict
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.database.database import change_rows

SECONDS = 60
"""Life of a lease. Its holder's transactions follow one another within a second, but for their turn as the writer, which
takes `BUSY_TIMEOUT_MS` at most."""


def new() -> str:
    """A lease that no other process has."""
    return str(uuid.uuid4())


async def now(connection: AsyncConnection) -> int:
    """The present time in seconds, by the database's clock."""
    seconds = "strftime('%s', 'now')"
    if connection.dialect.name == "postgresql":
        seconds = "extract(epoch from clock_timestamp())"
    return int(await connection.scalar(text(f"select cast({seconds} as bigint)")) or 0)


def free(at: int | BindParameter[int]) -> ColumnElement[bool]:
    """Whether no living process writes a campaign, at a time by the database's clock."""
    return or_(CampaignRow.lease_at.is_(None), CampaignRow.lease_at < at - SECONDS)


def expired(at: int | BindParameter[int]) -> ColumnElement[bool]:
    """Whether the process that wrote a campaign has died, at a time by the database's clock."""
    return and_(CampaignRow.lease_at.is_not(None), CampaignRow.lease_at < at - SECONDS)


async def renew(connection: AsyncConnection, campaign: str, lease: str) -> None:
    """Renew the lease of a campaign, in a transaction that writes some of its rows.

    Raises:
        CampaignConflict: it has run out or is another's by now, or the campaign was changed, deleted or started.
    """
    at = await now(connection)
    unsent = CampaignRow.state.in_([State.CREATING, State.DRAFT])
    held = CampaignRow.id == campaign, CampaignRow.lease == lease, ~free(at), unsent
    if not await change_rows(connection, CampaignRow, *held, lease_at=at):
        raise CampaignConflict(campaign, "was changed since it was read: look at it again")
