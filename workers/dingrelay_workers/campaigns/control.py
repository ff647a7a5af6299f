"""Starts, pauses, resumes, cancels and deletes campaigns: in SQL, and with a word to the fleet.

The state in SQL is what counts. The signal only makes the fleet look at once.
"""

from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from sqlalchemy import select, update

from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_workers.campaigns import chunks, leader, notices, removal
from dingrelay_workers.campaigns.models import CampaignRow, State
from dingrelay_workers.database.database import Database


class Control:
    """Moves campaigns from state to state. Asking for the state it is in changes nothing.

    Each method raises:
        CampaignNotFound: there is none with this id.
        CampaignConflict: it can't come there from the state it is in.
        SQLAlchemyError: the database is away, and nothing has changed.
        RedisError: the state has changed, and the fleet finds out by itself within seconds.
    """

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._redis = redis

    async def start(self, campaign: str) -> None:
        """Let a draft run."""
        await self._move(
            campaign, {State.DRAFT}, State.RUNNING, reason="", started_at=datetime.now(UTC)
        )

    async def pause(self, campaign: str, reason: str = "asked for") -> None:
        """Hold a campaign that runs."""
        await self._move(campaign, {State.RUNNING}, State.PAUSED, reason=reason)

    async def resume(self, campaign: str) -> None:
        """Let a paused campaign run on."""
        await self._move(
            campaign, {State.PAUSED}, State.RUNNING, reason="", recent_people=0.0, recent_failed=0.0
        )

    async def cancel(self, campaign: str) -> None:
        """End a campaign for good; people not yet called end as cancelled."""
        await self._move(
            campaign,
            {State.DRAFT, State.RUNNING, State.PAUSED},
            State.CANCELLED,
            reason="asked for",
            ended_at=datetime.now(UTC),
        )

    async def delete(self, campaign: str) -> None:
        """Hide a campaign that has ended; the leader of campaigns deletes its rows."""
        await removal.hide(self._database, campaign)
        await leader.signal(self._redis)

    async def _move(self, campaign: str, sources: set[State], to: State, **values: Any) -> None:
        async with self._database.write(f"campaign {campaign}") as connection:
            found = await connection.scalar(
                select(CampaignRow.state).where(CampaignRow.id == campaign)
            )
            if found in {None, State.CREATING}:
                raise CampaignNotFound(campaign)
            if found != to and found not in sources:
                raise CampaignConflict(campaign, f"is {found}, so it can't become {to}")
            if found != to:
                await connection.execute(
                    update(CampaignRow).where(CampaignRow.id == campaign).values(state=to, **values)
                )
            if to == State.CANCELLED:
                await chunks.cancel_pending(connection, campaign)
            if found != to:
                await notices.write(connection, campaign, State(found), datetime.now(UTC))
        await leader.signal(self._redis)
