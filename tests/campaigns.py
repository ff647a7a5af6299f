"""Campaigns as rows, for tests of what happens to them."""

import io
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from openpyxl import Workbook
from sqlalchemy import insert, select, update

from dingrelay_workers.campaigns import chunks as campaign_chunks
from dingrelay_workers.campaigns.chunks import ChunkEnding, Counts
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    OutcomeRow,
    State,
)
from dingrelay_workers.database.database import Database

NOW = datetime.now(UTC)
ZEROS = ("duplicates", "malformed", "settled", "accepted", "left_out", "failed", "calls")


def xlsx(*table: list[Any]) -> bytes:
    """An Excel file with these rows."""
    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in table:
        sheet.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


async def put(
    database: Database, *, people: int = 4, size: int = 2, first: int = 1, **fields: Any
) -> str:
    """A campaign to the users u1, u2, … from `first` on, `size` a chunk; its id."""
    campaign = str(uuid.uuid4())
    users = [f"u{first + number}" for number in range(people)]
    parts = [users[start : start + size] for start in range(0, people, size)]
    row = {
        "id": campaign,
        "app": "default",
        "name": "news",
        "state": State.RUNNING,
        "reason": "",
        "message": {"msgtype": "text", "text": {"content": f"news {campaign}"}},
        "created_at": datetime.now(UTC),
        "quiet": "",
        "weight": 1,
        "error_share": 0.2,
        "recipients": people,
        "chunks": len(parts),
        **dict.fromkeys(ZEROS, 0),
        **fields,
    }
    rows = [
        {
            "campaign": campaign,
            "number": number,
            "state": ChunkState.PENDING,
            "size": len(part),
            "users": ",".join(part),
            "accepted": 0,
            "ambiguous": False,
        }
        for number, part in enumerate(parts)
    ]
    async with database.write("tests") as connection:
        await connection.execute(insert(CampaignRow), row)
        await connection.execute(insert(ChunkRow), rows)
    return campaign


async def release(database: Database, campaign: str, most: int) -> list[int]:
    """Release so many of its chunks; their numbers."""
    async with database.write("tests") as connection:
        released = await campaign_chunks.release(connection, campaign, most, NOW)
    return [chunk.release.number for chunk in released]


async def settle(database: Database, campaign: str, *endings: ChunkEnding) -> Counts:
    """Settle chunks that are released."""
    async with database.write("tests") as connection:
        return await campaign_chunks.settle(connection, campaign, endings)


async def end(database: Database, campaign: str, *endings: ChunkEnding) -> None:
    """Release a chunk for each of these, and settle them."""
    await release(database, campaign, len(endings))
    await settle(database, campaign, *endings)


async def read(database: Database, campaign: str) -> Any:
    """The campaign's row."""
    async with database.read() as connection:
        found = await connection.execute(
            select(*CampaignRow.__table__.columns).where(CampaignRow.id == campaign)
        )
        return found.one()


async def chunks(database: Database, campaign: str) -> list[Any]:
    """Its chunks, in order."""
    async with database.read() as connection:
        found = await connection.execute(
            select(*ChunkRow.__table__.columns)
            .where(ChunkRow.campaign == campaign)
            .order_by(ChunkRow.number)
        )
        return list(found)


async def outcomes(database: Database, campaign: str) -> dict[str, str]:
    """People without an accepted call, by userid → why."""
    async with database.read() as connection:
        found = await connection.execute(
            select(OutcomeRow.userid, OutcomeRow.outcome).where(OutcomeRow.campaign == campaign)
        )
        return {row.userid: row.outcome for row in found}


async def fill_in(
    database: Database, campaign: str, messages: Sequence[dict[str, Any]]
) -> dict[str, str]:
    """Give each chunk a message of its own, as fields do; user → its text."""
    texts: dict[str, str] = {}
    rows = await chunks(database, campaign)
    async with database.write("tests") as connection:
        await connection.execute(
            update(CampaignRow)
            .where(CampaignRow.id == campaign)
            .values(message={"msgtype": "text", "text": {"content": "{text}"}})
        )
        for row, message in zip(rows, messages, strict=False):
            await connection.execute(
                update(ChunkRow)
                .where(ChunkRow.campaign == campaign, ChunkRow.number == row.number)
                .values(message=message)
            )
            texts |= dict.fromkeys(row.users.split(","), message["text"]["content"])
    return texts
