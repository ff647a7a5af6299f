"""A person among the people of campaigns.

A recipient not yet sent to is taken out before the call, and counts as cancelled. One already sent
to stays for as long as the day's limits, a recall and delivery reports need it; then the tombstone
takes their place, so a report adds up as before.
"""

import re
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import people_index, removal
from dingrelay_workers.campaigns.models import (
    HIDDEN,
    CampaignRow,
    ChunkRow,
    ChunkState,
    MalformedRow,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.people_index import chunks_of
from dingrelay_workers.campaigns.report import result_of
from dingrelay_workers.database.database import Database, change_rows, chunks
from dingrelay_workers.personal_data.subject import NEEDED, DataSubject, Erasing

ERASED = {
    "class": "cancelled",
    "code": "cancelled",
    "message": en("the person's data was erased before this call"),
    "hint": "",
}
"""The error of a chunk whose person is not sent to any more."""
EMPTIED = en("named a person whose data was erased")
"""The problem of a malformed row that did."""
_BETWEEN_WORDS = re.compile(r"[\s,;:\"']+")


async def export(connection: AsyncConnection, subject: DataSubject) -> list[dict[str, Any]]:
    """Every campaign that has them among its people, drafts included, or that they asked for."""
    found: list[dict[str, Any]] = []
    for campaign in await _campaigns(connection, subject, until=None):
        chunk = await _chunk(connection, campaign.id, subject.user)
        if chunk is None and campaign.sender != subject.user:
            continue
        figures: dict[str, Any] = {}
        if chunk is not None:
            result = await result_of(connection, campaign.id, chunk, subject.user)
            assert result is not None, "they are in the chunk"
            figures = {
                "outcome": result.outcome,
                "reason": result.reason,
                "task_id": result.task_id,
                "at": chunk.called_at if chunk.state == ChunkState.SETTLED else None,
            }
        found.append(
            {
                "campaign": campaign.id,
                "app": campaign.app,
                "name": campaign.name,
                "sender": campaign.sender,
                "created_at": campaign.created_at,
                "message": (chunk.message if chunk is not None else None) or campaign.message,
                **figures,
            }
        )
    return found


async def erase(database: Database, erasing: Erasing) -> None:
    """Take the person out of campaigns that were made before."""
    async with database.write("campaign checks") as connection:
        # Their sentences may name anyone of the app; the figures stay.
        named = update(CampaignRow).where(
            CampaignRow.created_at <= erasing.since, CampaignRow.named.is_not(None)
        )
        await connection.execute(erasing.among(named, CampaignRow.app).values(named=None))
        await _erase_malformed(connection, erasing)
    async with database.read() as connection:
        for campaign in await removal.leftovers(connection):
            erasing.leave(
                "campaigns",
                campaign,
                en("rows of a deleted or changed campaign, which may have them, are not gone yet"),
            )
        campaigns = await _campaigns(connection, erasing, until=erasing.since)
        concerned = [
            campaign
            for campaign in campaigns
            if campaign.sender == erasing.user
            or await _chunk(connection, campaign.id, erasing.user) is not None
        ]
    for campaign in concerned:
        # The lock of the dispatcher, which releases and settles chunks: neither sees half of the
        # other.
        async with database.write(f"campaign {campaign.id}") as connection:
            await _erase_sender(connection, campaign, erasing)
            chunk = await _chunk(connection, campaign.id, erasing.user)
            if chunk is not None:
                await _erase_from(connection, campaign, chunk, erasing)


async def _erase_malformed(connection: AsyncConnection, erasing: Erasing) -> None:
    """Empty the malformed rows that name the person among several of one name."""
    row = MalformedRow
    named = (text.contains(erasing.user, autoescape=True) for text in (row.written, row.problem))
    query = select(row.campaign, row.number, row.written, row.problem).join(CampaignRow)
    query = query.where(CampaignRow.created_at <= erasing.since, or_(*named))
    for found in (await connection.execute(erasing.among(query, CampaignRow.app))).all():
        if erasing.user in _BETWEEN_WORDS.split(f"{found.written} {found.problem}"):
            ours = row.campaign == found.campaign, row.number == found.number
            await change_rows(connection, row, *ours, written="", problem=EMPTIED)


async def _campaigns(
    connection: AsyncConnection, subject: DataSubject, *, until: datetime | None
) -> list[Any]:
    """The campaigns made until then; those still being made are not visible yet."""
    names = ("id", "app", "name", "sender", "state", "created_at", "message")
    query = select(*(getattr(CampaignRow, name) for name in names)).where(
        CampaignRow.state.not_in(HIDDEN)
    )
    if until is not None:
        query = query.where(CampaignRow.created_at <= until)
    query = subject.among(query, CampaignRow.app).order_by(CampaignRow.created_at.desc())
    rows = (await connection.execute(query)).all()
    found: list[Any] = []
    for some in chunks(rows):
        known = await chunks_of(connection, [subject.user], [row.id for row in some])
        # An empty set: surely not among its people.
        found += [row for row in some if known.get(row.id) != set() or row.sender == subject.user]
    return found


async def _chunk(connection: AsyncConnection, campaign: str, user: str) -> Any:
    """The chunk that the person is in; None for no chunk."""
    numbers = (await chunks_of(connection, [user], [campaign])).get(campaign)
    if numbers == set():
        return None
    query = select(ChunkRow.__table__).where(
        ChunkRow.campaign == campaign, ChunkRow.users.contains(user, autoescape=True)
    )
    if numbers is not None:
        query = query.where(ChunkRow.number.in_(sorted(numbers)))
    rows = await connection.execute(query)
    return next((row for row in rows.all() if user in row.users.split(",")), None)


async def _erase_sender(connection: AsyncConnection, campaign: Any, erasing: Erasing) -> None:
    if campaign.sender != erasing.user:
        return
    ended = CampaignRow.state.in_([State.DONE, State.CANCELLED])
    ours = CampaignRow.id == campaign.id, ended
    if await change_rows(connection, CampaignRow, *ours, sender=erasing.tombstone):
        erasing.changed["campaigns"] += 1
    else:
        erasing.leave(
            "campaigns", campaign.id, en("they asked for the campaign, which has not ended")
        )


async def _erase_from(
    connection: AsyncConnection, campaign: Any, chunk: Any, erasing: Erasing
) -> None:
    if chunk.state == ChunkState.QUEUED:
        reason = en("a call of the campaign with them is under way")
    elif chunk.state == ChunkState.PENDING:
        await _take_out(connection, campaign.id, chunk, erasing)
        erasing.changed["campaigns"] += 1
        return
    elif chunk.called_at is not None and chunk.called_at + NEEDED > erasing.now:
        reason = en("they were sent it lately: the limits of the day and a recall go by it")
    else:
        await _rename(connection, campaign, chunk, erasing)
        erasing.changed["campaigns"] += 1
        return
    until = chunk.called_at + NEEDED if chunk.state == ChunkState.SETTLED else None
    erasing.leave("campaigns", campaign.id, reason, until)


async def _take_out(
    connection: AsyncConnection, campaign: str, chunk: Any, erasing: Erasing
) -> None:
    """Send the rest of a chunk without the person, who counts as cancelled in a chunk of their own."""
    values: dict[str, Any] = {
        "state": ChunkState.SETTLED,
        "size": 1,
        "users": erasing.tombstone,
        "message": None,
        "error": ERASED,
    }
    where = (ChunkRow.campaign == campaign, ChunkRow.number == chunk.number)
    others = [user for user in chunk.users.split(",") if user != erasing.user]
    counts: dict[str, Any] = {"settled": CampaignRow.settled + 1}
    # Before its start: without the person it is not what was approved.
    ready = CampaignRow.id == campaign, CampaignRow.state == State.DRAFT
    await change_rows(connection, CampaignRow, *ready, people_digest=uuid4().hex)
    if others:
        left = {"users": ",".join(others), "size": len(others)}
        await change_rows(connection, ChunkRow, *where, **left)
        last = await connection.scalar(
            select(func.max(ChunkRow.number)).where(ChunkRow.campaign == campaign)
        )
        own = {"campaign": campaign, "number": (last or 0) + 1, "accepted": 0, "ambiguous": False}
        await connection.execute(insert(ChunkRow).values(**own, **values))
        counts["chunks"] = CampaignRow.chunks + 1
    else:
        await change_rows(connection, ChunkRow, *where, **values)
    await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **counts)
    await people_index.forget(connection, campaign, erasing.user)


async def _rename(connection: AsyncConnection, campaign: Any, chunk: Any, erasing: Erasing) -> None:
    """Let the tombstone stand for the person in a chunk that is over."""
    values: dict[str, Any] = {"users": erasing.without(chunk.users)}
    if chunk.unread_users:
        values["unread_users"] = erasing.without(chunk.unread_users)
    if chunk.message is not None and chunk.users == erasing.user:
        # It was filled in for them alone: what is left is the campaign's, with its fields.
        values["message"] = campaign.message
    ours = ChunkRow.campaign == campaign.id, ChunkRow.number == chunk.number
    await change_rows(connection, ChunkRow, *ours, **values)
    theirs = OutcomeRow.campaign == campaign.id, OutcomeRow.userid == erasing.user
    await change_rows(connection, OutcomeRow, *theirs, userid=erasing.tombstone)
    await people_index.forget(connection, campaign.id, erasing.user)
