"""Deletes campaigns with all their rows, in transactions that are short.

A deleted campaign is hidden first: it is `deleting`, a state that is never listed. Then its rows go, page by page:
chunks first, since outcomes of their people are written only while they exist. The deleting process may die at any
time: the leader of campaigns deletes the rest (`dispatcher.py`), and so does a repeated deletion. So it does with what
is left over of a process that died while it wrote a campaign, and of a campaign that became a draft again.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    false,
    func,
    null,
    or_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import lease
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
from dingrelay_workers.maintenance.clean_up import CleanUp

PAGE = 500
"""Rows deleted by one statement: of a few kilobytes each at most, which takes some milliseconds."""
HELD = 0.4
"""Seconds for which one transaction keeps SQLite's other writers waiting, about."""
ABANDONED = timedelta(hours=1)
"""After which a campaign that 0.2.0 is still creating, without a lease, is that of a process that died."""

COUNTED_TOGETHER = timedelta(days=1)
"""Time within which the campaigns of a writer count as one for the rule of approvals."""

DELETABLE = frozenset({CampaignStage.DRAFT, CampaignStage.DONE, CampaignStage.CANCELLED})
"""Stages in which a campaign may be deleted."""

FORGOTTEN: Mapping[str, Any] = {
    "content": null(),
    "file": None,
    "file_name": "",
    "named": None,
}
"""Columns that name people of a campaign, once nothing is made of it any more."""

_PARTS = (
    (ChunkRow, ChunkRow.number),
    (OutcomeRow, OutcomeRow.userid),
    (IndexRow, IndexRow.bucket),
    (MalformedRow, MalformedRow.number),
)
"""Tables with rows of campaigns, in the order in which they are emptied, and the column that
identifies a row."""


async def hide(connection: AsyncConnection, row: CampaignRow) -> bool:
    """Hide a campaign; whether it was not hidden already.

    Raises:
        CampaignNotFound: it is being created.
        CampaignConflict: it was made ready, and has not ended, or calls of it are under way.
    """
    await check_deletable(connection, row)
    visible = CampaignRow.id == row.id, CampaignRow.state != State.DELETING
    hidden = await change_rows(connection, CampaignRow, *visible, state=State.DELETING, **FORGOTTEN)
    return bool(hidden)


def _with_rows_left() -> Select[str]:
    """Campaigns with rows left, at a time by the database's clock and two by Redis's.

    It is long, and the leader asks it in each turn: it is made once.
    """
    at: BindParameter[int] = bindparam("at", type_=BigInteger())
    state = CampaignRow.state
    # 0.2.0 deletes a campaign by an end while it is `creating`.
    abandoned = CampaignRow.created_at < bindparam("abandoned_before")
    of_0_2_0 = and_(CampaignRow.lease.is_(None), or_(CampaignRow.ended_at.is_not(None), abandoned))
    died = and_(state == State.CREATING, or_(lease.expired(at), of_0_2_0))
    rows_left = or_(*(exists().where(table.campaign == CampaignRow.id) for table, _ in _PARTS))
    unfrozen = and_(state == State.DRAFT, CampaignRow.chunks == 0, lease.free(at), rows_left)
    # Campaigns of a day count as one, whether they are deleted or not: the row stays so long.
    counted = CampaignRow.admitted_at > bindparam("counted_since")
    deleted = and_(state == State.DELETING, or_(~func.coalesce(counted, false()), rows_left))
    return select(CampaignRow.id).where(or_(deleted, died, unfrozen))


_WITH_ROWS_LEFT = _with_rows_left()


async def leftovers(connection: AsyncConnection, campaign: str | None = None) -> list[str]:
    """Campaigns, or this one, with rows left: deleted, drafts again, or of a process that died while it wrote them."""
    query = _WITH_ROWS_LEFT
    if campaign is not None:
        query = query.where(CampaignRow.id == campaign)
    times = {
        "at": await lease.now(connection),
        "abandoned_before": clock.now() - ABANDONED,
        "counted_since": clock.now() - COUNTED_TOGETHER,
    }
    return list(await connection.scalars(query, times))


async def remove(
    database: Database, campaign: str, on_rows: Callable[[int], None] | None = None
) -> None:
    """Delete a hidden campaign; `on_rows` is called with the number of rows deleted so far."""
    deleted = 0
    while (rows := await remove_some(database, campaign, seconds=HELD)) is not None:
        deleted += rows
        if on_rows is not None:
            on_rows(deleted)
        await database.let_others_write()


async def remove_some(database: Database, campaign: str, *, seconds: float) -> int | None:
    """Delete pages of what is left of it in one transaction for so long, one at least.

    Returns:
        How many rows are gone; None once nothing is left of it.
    """
    async with database.write(f"campaign {campaign}") as connection:
        # Another process may have taken it up since.
        if not await leftovers(connection, campaign):
            return None
        of_campaign = CampaignRow.id == campaign
        await change_rows(
            connection,
            CampaignRow,
            of_campaign,
            CampaignRow.state == State.CREATING,
            state=State.DELETING,
        )
        deleted, more = await _remove_pages(connection, campaign, seconds)
        if more:
            return deleted
        if await leftovers(connection, campaign):
            gone_for_good = delete(CampaignRow).where(
                of_campaign, CampaignRow.state == State.DELETING
            )
            await connection.execute(gone_for_good)
        return None


async def remove_people(connection: AsyncConnection, campaign: str, *, seconds: float) -> bool:
    """Delete pages of the people of a campaign for so long, one at least; whether there may be more."""
    _, more = await _remove_pages(connection, campaign, seconds)
    return more


async def _remove_pages(
    connection: AsyncConnection, campaign: str, seconds: float
) -> tuple[int, bool]:
    began, deleted = time.monotonic(), 0
    while rows := await _remove_page(connection, campaign):
        deleted += rows
        if time.monotonic() - began >= seconds:
            return deleted, True
    return deleted, False


async def expire(database: Database, before: datetime) -> int:
    """Hide some campaigns for the leader to delete their rows; how many.

    Those that ended before a moment, and those that were made ready, changed last before it and never started.
    """
    under_way = exists().where(
        ChunkRow.campaign == CampaignRow.id, ChunkRow.state == ChunkState.QUEUED
    )
    ended = and_(
        CampaignRow.state.in_([State.DONE, State.CANCELLED]), CampaignRow.ended_at < before
    )
    never_started = and_(
        CampaignRow.state == State.DRAFT,
        CampaignRow.chunks > 0,
        func.coalesce(CampaignRow.updated_at, CampaignRow.created_at) < before,
        func.coalesce(CampaignRow.start_at, before) <= before,
    )
    is_old = or_(ended, never_started), ~under_way
    page = CampaignRow.id.in_(select(CampaignRow.id).where(*is_old).limit(PAGE))
    async with database.write("campaigns") as connection:
        # Of a row that it waited for PostgreSQL asks this again, but not what the page is made of.
        return await change_rows(
            connection, CampaignRow, page, *is_old, state=State.DELETING, **FORGOTTEN
        )


async def clean_up(work: CleanUp) -> None:
    """Forget who had not read campaigns, after the days of the settings."""
    before = work.now() - timedelta(days=work.settings.campaigns.unread_days)
    while await forget_unread(work.database, before) == PAGE:
        work.step()


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


async def check_deletable(connection: AsyncConnection, row: CampaignRow) -> None:
    """Raise as `hide` would."""
    if row.state == State.CREATING:
        raise CampaignNotFound(row.id)
    if row.state != State.DELETING and row.stage not in DELETABLE:
        raise CampaignConflict(row.id, en("is {}: cancel it first, or wait for its end", row.stage))
    under_way = select(ChunkRow.number).where(ChunkRow.in_state(row.id, ChunkState.QUEUED))
    if await connection.scalar(under_way.limit(1)) is not None:
        raise CampaignConflict(row.id, "has calls under way: delete it once they have ended")


async def _remove_page(connection: AsyncConnection, campaign: str) -> int:
    for table, column in _PARTS:
        of_campaign = table.campaign == campaign
        page = select(column).where(of_campaign).order_by(column).limit(PAGE)
        deletion = await connection.execute(delete(table).where(of_campaign, column.in_(page)))
        if deletion.rowcount:
            return deletion.rowcount
    return 0
