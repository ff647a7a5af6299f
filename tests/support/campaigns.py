"""Campaigns as rows, for tests of what happens to them."""

import asyncio
import io
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from openpyxl import Workbook
from sqlalchemy import select

from dingrelay_producers.actor import ACTOR, Actor
from dingrelay_producers.client.campaign_documents import CampaignStatus
from dingrelay_producers.settings import Settings
from dingrelay_workers.campaigns import chunks as campaign_chunks
from dingrelay_workers.campaigns import removal
from dingrelay_workers.campaigns.chunks import ChunkEnding, Counts, Release
from dingrelay_workers.campaigns.documents import DraftChange, DraftContent, DraftVersion
from dingrelay_workers.campaigns.drafts import CampaignDraft, Drafts, FileCount
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.store import find
from dingrelay_workers.database.database import Database
from support import rows

NOW = datetime.now(UTC)


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
    message = {"msgtype": "text", "text": {"content": f"news {campaign}"}}
    planned = {"recipients": people, "chunks": len(parts), "weight": 1, "error_share": 0.2}
    row = {"id": campaign, "name": "news", "state": State.RUNNING, "message": message, **planned}
    chunk = {"campaign": campaign, "state": ChunkState.PENDING}
    numbered = [
        {**chunk, "number": number, "size": len(part), "users": ",".join(part)}
        for number, part in enumerate(parts)
    ]
    moments = dict.fromkeys(("created_at", "started_at"), datetime.now(UTC))
    await rows.put(database, CampaignRow, {**row, **moments, **fields})
    await rows.put(database, ChunkRow, *numbered)
    return campaign


def put_now(url: str, **fields: Any) -> str:
    """The same for a test that has no loop."""

    async def made() -> str:
        database = Database(url)
        try:
            return await put(database, **fields)
        finally:
            await database.dispose()

    return asyncio.run(made())


def taken(number: int = 0, accepted: int = 2, **fields: Any) -> ChunkEnding:
    """The end of a chunk whose call DingTalk took."""
    call = {"task_id": 7 + number, "called_at": NOW, "accepted": accepted}
    return ChunkEnding(Release(number, 1), **call | fields)


def failed(number: int, error: dict[str, Any]) -> ChunkEnding:
    """The end of a chunk that DingTalk did not take."""
    return ChunkEnding(Release(number, 1), error=error)


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


async def move(settings: Settings, database: Database, campaign: str, verb: str) -> None:
    """Start, pause, resume or cancel a campaign."""
    await getattr(CampaignService(settings, database), verb)(campaign)


async def hide(database: Database, campaign: str) -> CampaignRow:
    """Hide a campaign, whose rows are to be deleted."""
    async with database.write("tests") as connection:
        row = await find(connection, campaign, hidden=True)
        await removal.hide(connection, row)
        return row


class Writers:
    """Drafts as several people write them."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._drafts = Drafts(settings, database)
        self.get, self.parse_pasted = self._drafts.get, self._drafts.parse_pasted

    async def create(self, content: Mapping[str, Any], by: str, once: str = "") -> CampaignDraft:
        """A new draft, with this id if one is given."""
        with acting(by, once=once.replace("-", "")):
            return await self._drafts.write(DraftContent.parse(content))

    async def save(
        self, campaign: str, version: int, changes: Mapping[str, Any], by: str
    ) -> CampaignDraft:
        """Change some fields of it."""
        with acting(by):
            change = DraftChange.parse({**changes, "version": version})
            return await self._drafts.save(campaign, change)

    async def put_file(
        self, campaign: str, version: int, name: str, file: bytes | None, by: str
    ) -> tuple[CampaignDraft, FileCount]:
        """Give it a list of people, or take that away."""
        with acting(by):
            return await self._drafts.attach(campaign, version, name, file)

    async def copy(self, campaign: str, by: str) -> CampaignDraft:
        """A draft of a campaign."""
        with acting(by):
            return await self._drafts.copy(campaign)

    async def freeze(self, campaign: str, version: int, by: str) -> CampaignStatus:
        """Make it ready."""
        with acting(by):
            return await self._drafts.freeze(campaign, DraftVersion(version=version))


@contextmanager
def acting(person: str, **fields: Any) -> Generator[None]:
    """Have the block act for a person at the console, who may do all."""
    token = ACTOR.set(Actor("console", person, person=person, **fields))
    try:
        yield
    finally:
        ACTOR.reset(token)


async def read(database: Database, campaign: str) -> Any:
    """The campaign's row."""
    async with database.read() as connection:
        found = await connection.execute(
            select(*CampaignRow.__table__.columns).where(CampaignRow.id == campaign)
        )
        return found.one()


async def chunks(database: Database, campaign: str) -> list[Any]:
    """Chunks of a campaign, in order."""
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
    template = {"msgtype": "text", "text": {"content": "{text}"}}
    await rows.change(database, CampaignRow, CampaignRow.id == campaign, message=template)
    for chunk, message in zip(await chunks(database, campaign), messages, strict=False):
        where = ChunkRow.campaign == campaign, ChunkRow.number == chunk.number
        await rows.change(database, ChunkRow, *where, message=message)
        texts |= dict.fromkeys(chunk.users.split(","), message["text"]["content"])
    return texts
