"""Deletes campaigns with all their rows, in transactions that are short.

A deleted campaign is hidden first: it is `creating`, a state that is never listed, and it has an
end, unlike one that is being made. Then its rows go, page by page: chunks first, since outcomes of their
people are written only while they exist. The deleting process may die at any time: the leader of
campaigns deletes the rest (`dispatcher.py`), and so does a repeated deletion.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_tasks.sentence import en
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    MalformedRow,
    OutcomeRow,
    State,
)
from dingrelay_workers.database.database import Database, change_rows

PAGE = 500
"""Rows deleted by one statement: of a few kilobytes each at most, which takes some milliseconds."""
HELD = 0.4
"""Seconds for which one transaction keeps SQLite's other writers waiting, about."""
ABANDONED = timedelta(hours=1)
"""After which a campaign that is still being created is that of a process that died: writing the
largest one takes minutes, and no clocks differ by so much."""

_PARTS = (
    (ChunkRow, ChunkRow.number),
    (OutcomeRow, OutcomeRow.userid),
    (IndexRow, IndexRow.bucket),
    (MalformedRow, MalformedRow.number),
)
"""Tables with rows of campaigns, in the order in which they are emptied, and the column that
identifies a row."""


async def look(database: Database, campaign: str) -> CampaignRow:
    """The campaign that would be deleted.

    Raises:
        CampaignNotFound: there is none with this id.
        CampaignConflict: it has not ended.
    """
    async with database.read() as connection:
        return await _look(connection, campaign)


async def hide(database: Database, campaign: str) -> None:
    """Hide a campaign. One that is hidden already stays so.

    Raises:
        CampaignNotFound: there is none with this id.
        CampaignConflict: it has not ended.
    """
    async with database.write(f"campaign {campaign}") as connection:
        found = await _look(connection, campaign)
        hidden = await connection.execute(
            update(CampaignRow)
            .where(CampaignRow.id == campaign, CampaignRow.state != State.CREATING)
            .values(state=State.CREATING, ended_at=datetime.now(UTC))
        )
        if hidden.rowcount:
            before = {"name": found.name, "state": found.state, "people": found.recipients}
            await audit.record(
                connection, "delete", "campaign", campaign, app=found.app, before=before
            )


async def replace(database: Database, campaign: str, by: str) -> None:
    """Hide a campaign that was never started, if there is one, for a newer one; the leader deletes its rows.

    Raises:
        CampaignConflict: it was started.
    """
    async with database.write(f"campaign {campaign}") as connection:
        query = select(CampaignRow.state, CampaignRow.app).where(CampaignRow.id == campaign)
        row = (await connection.execute(query)).one_or_none()
        if row is None or row.state in {State.CREATING, State.CANCELLED}:
            return
        if row.state != State.DRAFT:
            raise CampaignConflict(campaign, en("is {}: write another draft", State(row.state)))
        values = {"state": State.CREATING, "ended_at": datetime.now(UTC)}
        await connection.execute(
            update(CampaignRow).where(CampaignRow.id == campaign).values(values)
        )
        after = {"replaced_by": by}
        await audit.record(connection, "replace", "campaign", campaign, app=row.app, after=after)


async def hidden(connection: AsyncConnection) -> list[str]:
    """The campaigns that were deleted and have rows left, and those whose processes died while they made them."""
    died = CampaignRow.created_at < datetime.now(UTC) - ABANDONED
    gone = or_(CampaignRow.ended_at.is_not(None), died)
    query = select(CampaignRow.id).where(CampaignRow.state == State.CREATING, gone)
    return list(await connection.scalars(query))


async def remove(
    database: Database, campaign: str, on_rows: Callable[[int], None] | None = None
) -> None:
    """Delete a hidden campaign; `on_rows` is called with the number of rows deleted so far."""
    gone = 0
    while (rows := await remove_some(database, campaign, seconds=HELD)) is not None:
        gone += rows
        if on_rows is not None:
            on_rows(gone)
        await database.let_others_write()


async def remove_some(database: Database, campaign: str, *, seconds: float) -> int | None:
    """Delete pages of it in one transaction for so long, one at least.

    Returns:
        How many rows are gone; None once nothing is left of it.
    """
    async with database.write(f"campaign {campaign}") as connection:
        state = await connection.scalar(select(CampaignRow.state).where(CampaignRow.id == campaign))
        if state != State.CREATING:
            return None
        began, gone = time.monotonic(), 0
        while rows := await _remove_page(connection, campaign):
            gone += rows
            if time.monotonic() - began >= seconds:
                return gone
        await connection.execute(delete(CampaignRow).where(CampaignRow.id == campaign))
        return None


async def forget_unread(database: Database, before: datetime) -> int:
    """Forget in some chunks the people who had not read it when DingTalk was asked before; in how many."""
    old = (
        select(ChunkRow.campaign, ChunkRow.number)
        .where(ChunkRow.unread_users.is_not(None), ChunkRow.confirmed_at < before)
        .limit(PAGE)
    )
    chunk = tuple_(ChunkRow.campaign, ChunkRow.number)
    async with database.write("unread") as connection:
        return await change_rows(connection, ChunkRow, chunk.in_(old), unread_users=None)


async def _look(connection: AsyncConnection, campaign: str) -> CampaignRow:
    async with AsyncSession(connection) as session:
        row = await session.get(CampaignRow, campaign)
    if row is None or (row.state == State.CREATING and row.ended_at is None):
        raise CampaignNotFound(campaign)
    state = State(row.state)
    if state != State.CREATING and not state.ended:
        raise CampaignConflict(campaign, en("is {}: cancel it first, or wait for its end", state))
    under_way = select(ChunkRow.number).where(
        ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.QUEUED
    )
    if await connection.scalar(under_way.limit(1)) is not None:
        raise CampaignConflict(campaign, "has calls under way: delete it once they have ended")
    return row


async def _remove_page(connection: AsyncConnection, campaign: str) -> int:
    for table, column in _PARTS:
        ours = table.campaign == campaign
        page = select(column).where(ours).order_by(column).limit(PAGE)
        found = await connection.execute(delete(table).where(ours, column.in_(page)))
        if found.rowcount:
            return found.rowcount
    return 0
