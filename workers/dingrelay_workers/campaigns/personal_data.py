"""A person among the people of campaigns.

A recipient not yet sent to is taken out before the call, and counts as cancelled. One already sent
to stays for as long as the day's limits, a recall and delivery reports need it; then the tombstone
takes their place, so a report adds up as before.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, Row, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.campaigns import people_index, removal
from dingrelay_workers.campaigns.chunks import next_number, pending_row
from dingrelay_workers.campaigns.models import (
    HIDDEN,
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    MalformedRow,
    OutcomeRow,
    ReviewRow,
    State,
)
from dingrelay_workers.campaigns.people_index import chunks_with
from dingrelay_workers.campaigns.report import results_in
from dingrelay_workers.database.database import change_rows
from dingrelay_workers.subjects import (
    NEEDED,
    DataSubject,
    Erasing,
    PersonalData,
    Rows,
    Stores,
    rename_in_rows,
    rows_of,
)

ERASED = {
    "class": "cancelled",
    "code": "cancelled",
    "message": en("the person's data was erased before this call"),
    "hint": "",
}
"""The error of a chunk whose person is not sent to any more."""
EMPTIED = en("named a person whose data was erased")
"""The problem of a malformed row that did."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every campaign that has them among its people, drafts included, or that they wrote or reviewed."""
    async with stores.database.read() as connection:
        return await _export(connection, subject)


async def _export(connection: AsyncConnection, subject: DataSubject) -> Rows:
    documents: list[dict[str, Any]] = []
    worked_on = await _worked_on(connection, subject)
    campaigns = await _campaigns(connection, subject)
    chunks = await chunks_with(connection, subject.user, [campaign.id for campaign in campaigns])
    results = await results_in(connection, chunks, subject.user)
    for campaign in campaigns:
        chunk = chunks.get(campaign.id)
        if chunk is None and campaign.id not in worked_on:
            continue
        figures: dict[str, Any] = {}
        if chunk is not None:
            result = results[campaign.id]
            figures = {
                "outcome": result.outcome,
                "reason": result.reason,
                "task_id": result.task_id,
                "at": chunk.called_at if chunk.state == ChunkState.SETTLED else None,
            }
        documents.append(
            {
                "campaign": campaign.id,
                "app": campaign.app,
                "name": campaign.name,
                "sender": campaign.sender,
                "created_at": campaign.created_at,
                "wrote_or_reviewed": campaign.id in worked_on,
                "message": (chunk.message if chunk is not None else None) or campaign.message,
                **figures,
            }
        )
    return documents


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Take the person out of campaigns that were made before."""
    database = stores.database
    async with database.read() as connection:
        worked_on = await _worked_on(connection, erasing)
        for name in await removal.leftovers(connection):
            erasing.leave(
                "campaigns",
                name,
                en("rows of a deleted or changed campaign, which may have them, are not gone yet"),
            )
        # The row of a deleted campaign may stay for a day, with its writers and its review.
        deleted = select(CampaignRow.id).where(
            CampaignRow.id.in_(worked_on), CampaignRow.state == State.DELETING
        )
        hidden = list(await connection.scalars(deleted))
        campaigns = await _campaigns(connection, erasing, CampaignRow.created_at <= erasing.since)
        names = [campaign.id for campaign in campaigns]
        concerned = worked_on | (await chunks_with(connection, erasing.user, names)).keys()
    for name in hidden:
        async with database.write(f"campaign {name}") as connection:
            await _erase_work(connection, name, erasing)
    for campaign in campaigns:
        if campaign.id not in concerned:
            continue
        # The lock of the dispatcher, which releases and settles chunks: neither sees half of the
        # other.
        async with database.write(f"campaign {campaign.id}") as connection:
            await _erase_work(connection, campaign.id, erasing)
            chunks = await chunks_with(connection, erasing.user, [campaign.id])
            for chunk in chunks.values():
                await _erase_from(connection, campaign, chunk, erasing)


async def _campaigns(
    connection: AsyncConnection, subject: DataSubject, *where: ColumnElement[bool]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The campaigns for which this holds; those still being made are not visible yet."""
    names = ("id", "app", "name", "sender", "state", "created_at", "message")
    query = select(*(getattr(CampaignRow, name) for name in names))
    query = query.where(CampaignRow.state.not_in(HIDDEN), *where)
    query = subject.among(query, CampaignRow.app).order_by(CampaignRow.created_at.desc())
    return (await connection.execute(query)).all()


async def _worked_on(connection: AsyncConnection, subject: DataSubject) -> set[str]:
    """The campaigns that they wrote or reviewed, and those whose checks name them."""
    campaigns = await rows_of(connection, CampaignRow, subject, app=CampaignRow.app)
    named_by = {row["id"] for row in campaigns}
    for table in (ReviewRow, MalformedRow):
        named_by |= {row["campaign"] for row in await rows_of(connection, table, subject)}
    return named_by


async def _erase_work(connection: AsyncConnection, campaign: str, erasing: Erasing) -> None:
    """Let the tombstone stand for a writer or reviewer; the check's lines about the person go."""
    reviews = await rows_of(connection, ReviewRow, erasing, ReviewRow.campaign == campaign)
    rows: list[Mapping[str, Any]] = []
    for row in await rows_of(connection, CampaignRow, erasing, CampaignRow.id == campaign):
        people = row["named"] and _without(row["named"], erasing.user)
        rows.append({**row, "named": people})
        if people != row["named"]:
            await change_rows(connection, CampaignRow, CampaignRow.id == campaign, named=people)
            erasing.changed["campaigns"] += 1
    changed = await rename_in_rows(connection, CampaignRow, rows, erasing)
    changed += await rename_in_rows(connection, ReviewRow, reviews, erasing)
    for row in await rows_of(connection, MalformedRow, erasing, MalformedRow.campaign == campaign):
        malformed = MalformedRow.campaign == campaign, MalformedRow.number == row["number"]
        emptied = {"written": "", "problem": EMPTIED, "users": ""}
        changed += await change_rows(connection, MalformedRow, *malformed, **emptied)
    erasing.changed["campaigns"] += changed


def _without(named: Mapping[str, Any], user: str) -> dict[str, Any]:
    """The people in a check without one of them; a problem that names the person goes as a whole."""
    return {
        **named,
        "skipped": [row for row in named.get("skipped", ()) if user not in row.get("users", ())],
        "absent": [absent for absent in named.get("absent", ()) if absent != user],
    }


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
    other_users = [user for user in chunk.users.split(",") if user != erasing.user]
    counts: dict[str, Any] = {"settled": CampaignRow.settled + 1}
    # Before its start: without the person it is not what was approved.
    ready = CampaignRow.id == campaign, CampaignRow.state == State.DRAFT
    await change_rows(connection, CampaignRow, *ready, people_digest=uuid4().hex)
    if other_users:
        remainder = {"users": ",".join(other_users), "size": len(other_users)}
        await change_rows(connection, ChunkRow, *where, **remainder)
        number = await next_number(connection, campaign)
        row = pending_row(campaign, number, [erasing.tombstone])
        await connection.execute(insert(ChunkRow).values({**row, **values}))
        counts["chunks"] = CampaignRow.chunks + 1
    else:
        await change_rows(connection, ChunkRow, *where, **values)
    await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **counts)
    await people_index.forget(connection, campaign, erasing.user)


async def _rename(connection: AsyncConnection, campaign: Any, chunk: Any, erasing: Erasing) -> None:
    """Let the tombstone stand for the person in a chunk that is over."""
    people = ChunkRow.__people__
    values = people.renamed(people.values_of(chunk), erasing.user, erasing.tombstone)
    if chunk.message is not None and chunk.users == erasing.user:
        # It was filled in for them alone: what is left is the campaign's, with its fields.
        values["message"] = campaign.message
    of_chunk = ChunkRow.campaign == campaign.id, ChunkRow.number == chunk.number
    await change_rows(connection, ChunkRow, *of_chunk, **values)
    theirs = OutcomeRow.campaign == campaign.id, OutcomeRow.userid == erasing.user
    await change_rows(connection, OutcomeRow, *theirs, userid=erasing.tombstone)
    await people_index.forget(connection, campaign.id, erasing.user)


PERSONAL_DATA = PersonalData(
    place="campaigns",
    title=en("campaigns"),
    tables=(CampaignRow, ChunkRow, OutcomeRow, MalformedRow, IndexRow, ReviewRow),
    export=export,
    erase=erase,
)
