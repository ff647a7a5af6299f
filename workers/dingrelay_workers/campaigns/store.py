"""The campaigns of all apps, in the database of the directory."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Select, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.campaign_documents import CampaignPreview, CampaignStatus, Plan
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import batched
from dingrelay_tasks.sentence import with_parts
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns import removal
from dingrelay_workers.campaigns.audience import (
    UNWATCHED,
    CreationProgress,
    Gathered,
    gather,
)
from dingrelay_workers.campaigns.chunks import storable
from dingrelay_workers.campaigns.documents import CampaignSpec
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    MalformedRow,
    State,
)
from dingrelay_workers.campaigns.people_index import PeopleIndex, bits_for
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database, latest_first, narrowed

ALL = CampaignFilter()
PAGE = 500
"""Chunks or outcomes read or written at once."""

_Row = TypeVar("_Row", bound=Base)
Pages = Iterator[tuple[type[Base], list[dict[str, Any]]]]
"""Rows to insert, by their table."""
Check = Callable[[CampaignSpec, Gathered], Awaitable[CampaignPreview | None]]
"""Finds out what a campaign will take while it is made."""
_STORED = {"app", "name", "start_at", "quiet", "rate", "weight", "error_share", "sender"}
"""Fields of a campaign's specification that are columns."""


class CampaignStore:
    """Creates campaigns and reads them in a database whose tables are made by `schema.upgrade`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def create(
        self,
        plan: Plan,
        campaign: str | None = None,
        progress: CreationProgress = UNWATCHED,
        *,
        writers: Sequence[str] = (),
        check: Check | None = None,
    ) -> CampaignStatus:
        """Make a draft with its recipients: all of it or, whatever happens, nothing.

        Args:
            plan: what is sent, and how, and to which people.
            campaign: its id; a new one by default.
            progress: follows the creation.
            writers: who wrote it, and so may not approve it; the actor by default.
            check: whose result is kept.

        Raises:
            MalformedRecipients: there are malformed rows, and they are refused.
            ContractError: the plan is invalid, or no recipient is left of it.
            CampaignConflict: one with this id is being made.
        """
        spec = CampaignSpec.of(plan)
        campaign = campaign or str(uuid.uuid4())
        async with gather(self.database, spec, plan, progress) as gathered:
            with spans.span("create campaign", "INTERNAL") as span:
                found = await check(spec, gathered) if check else None
                row = await self._write(campaign, spec, gathered, progress, writers, found)
                span.set_attributes({"dingrelay.app": spec.app, "dingrelay.campaign": campaign})
            return CampaignStatus.model_validate(row)

    async def get(self, campaign: str) -> CampaignRow:
        """The campaign with this id.

        Raises:
            CampaignNotFound: there is none.
        """
        async with self.database.read() as connection:
            return await _find(connection, campaign)

    async def list(
        self,
        chosen: CampaignFilter = ALL,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
    ) -> Sequence[CampaignRow]:
        """The latest campaigns, latest first: at most `limit`, after one with this moment of creation and this id."""
        row = CampaignRow
        query = narrowed(select(row).where(row.state != State.CREATING), row, chosen)
        page = latest_first(query, row.created_at, row.id, behind=after, limit=limit)
        return await self._page(page)

    async def chunks(self, campaign: str, at_once: int = PAGE) -> AsyncIterator[Sequence[ChunkRow]]:
        """All chunks in their order, in pages; no transaction stays open between pages."""
        query = select(ChunkRow).where(ChunkRow.campaign == campaign).order_by(ChunkRow.number)
        last = -1
        while page := await self._page(query.where(ChunkRow.number > last).limit(at_once)):
            yield page
            last = page[-1].number

    async def _write(
        self,
        campaign: str,
        spec: CampaignSpec,
        gathered: Gathered,
        progress: CreationProgress,
        writers: Sequence[str],
        found: CampaignPreview | None,
    ) -> CampaignRow:
        """Write it in transactions that are short, and make it a draft in the last one."""
        size = spec.users_per_call
        people = gathered.recipients
        bits = bits_for(people)
        named = {
            "skipped": [
                with_parts({**dict(each), "problem": storable(each.problem)})
                for each in gathered.skipped
            ],
            "absent": found.absent if found else [],
        }
        row = {
            **spec.model_dump(include=_STORED),
            "id": campaign,
            "state": State.CREATING,
            "reason": "",
            "message": spec.template.message,
            "created_at": datetime.now(UTC),
            "recipients": people,
            "duplicates": gathered.duplicates,
            "malformed": gathered.malformed,
            "excluded": gathered.excluded,
            "checked": found and _figures(found),
            "named": named if any(named.values()) else None,
            "chunks": gathered.staging.count_chunks(size),
            **dict.fromkeys(("settled", "accepted", "left_out", "failed", "calls"), 0),
            "index_bits": bits,
            "trace": spans.current(),
            "writers": list(dict.fromkeys(writers or [current_actor().id])),
        }
        index = PeopleIndex(campaign, bits)
        digest = hashlib.sha256()
        pages = _pages(campaign, spec, gathered, index, digest.update)
        try:
            async with self.database.write(f"campaign {campaign}") as connection:
                await connection.execute(insert(CampaignRow), row)
        except IntegrityError:
            raise CampaignConflict(campaign, "is being created") from None
        try:
            while await self._write_some(campaign, pages, people, progress):
                await self.database.let_others_write()
            async with self.database.write(f"campaign {campaign}") as connection:
                await _publish(connection, campaign, digest.hexdigest())
                made = {"name": spec.name, "people": people}
                await audit.record(
                    connection, "create", "campaign", campaign, app=spec.app, after=made
                )
                return await _find(connection, campaign)
        except BaseException:
            # The leader deletes later what can't be deleted now; it is hidden.
            with suppress(SQLAlchemyError):
                await self._remove(campaign)
            raise

    async def _write_some(
        self, campaign: str, pages: Pages, people: int, progress: CreationProgress
    ) -> bool:
        """Write pages in one transaction for a while; whether there are more.

        A lock of its own: on PostgreSQL no writer waits for a campaign that is still being made.
        """
        async with self.database.write(f"campaign {campaign}") as connection:
            began = time.monotonic()
            for table, page in pages:
                await connection.execute(insert(table), page)
                if table is ChunkRow:
                    progress.written(sum(chunk["size"] for chunk in page), people)
                _heed_cancellation()
                if time.monotonic() - began > removal.HELD:
                    return True
        return False

    async def _remove(self, campaign: str) -> None:
        """Delete a campaign that could not be made."""
        async with self.database.write(f"campaign {campaign}") as connection:
            # Perhaps it was made a draft, and only the answer of the database was lost.
            await connection.execute(
                update(CampaignRow)
                .where(CampaignRow.id == campaign, CampaignRow.state == State.DRAFT)
                .values(state=State.CREATING)
            )
        await removal.remove(self.database, campaign)

    async def _page(self, query: Select[_Row]) -> Sequence[_Row]:
        async with self.database.read() as connection, AsyncSession(connection) as session:
            return list(await session.scalars(query))


def _figures(found: CampaignPreview) -> dict[str, Any]:
    """The part of a check that is kept for good: all of it that names no person."""
    figures = found.model_dump(mode="json", exclude={"first", "skipped", "absent"})
    return with_parts({**figures, "limit": found.limit})


def _heed_cancellation() -> None:
    """Stop a cancelled task: a driver may swallow that (before 3.12 `wait_for` does)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _find(connection: AsyncConnection, campaign: str) -> CampaignRow:
    async with AsyncSession(connection) as session:
        found = await session.get(CampaignRow, campaign)
    if found is None or found.state == State.CREATING:
        raise CampaignNotFound(campaign)
    return found


async def _publish(connection: AsyncConnection, campaign: str, digest: str) -> None:
    """Make a draft of what has been written."""
    await connection.execute(
        update(CampaignRow)
        .where(CampaignRow.id == campaign, CampaignRow.state == State.CREATING)
        .values(state=State.DRAFT, created_at=datetime.now(UTC), people_digest=digest)
    )


def _pages(
    campaign: str,
    spec: CampaignSpec,
    gathered: Gathered,
    index: PeopleIndex,
    add_to_digest: Callable[[bytes], None],
) -> Pages:
    """All rows of a campaign but its own, as many as are written at once."""
    rows = _chunk_rows(campaign, spec, gathered, index)
    for page in batched(rows, PAGE):
        for row in page:
            add_to_digest(json.dumps([row["users"], row.get("message")], sort_keys=True).encode())
        yield ChunkRow, page
        if index.full:
            yield from _index_pages(index)
    yield from _index_pages(index)
    malformed = ({"campaign": campaign, **row} for row in gathered.staging.malformed())
    for page in batched(malformed, PAGE):
        yield MalformedRow, page


def _index_pages(index: PeopleIndex) -> Pages:
    rows = index.rows()
    for page in batched(rows, PAGE):
        yield IndexRow, page


def _chunk_rows(
    campaign: str, spec: CampaignSpec, gathered: Gathered, index: PeopleIndex
) -> Iterator[dict[str, Any]]:
    """The rows of the chunks; `message` is there only where the campaign's own is no message."""
    for number, (users, message) in enumerate(gathered.staging.chunks(spec.users_per_call)):
        row: dict[str, Any] = {
            "campaign": campaign,
            "number": number,
            "state": ChunkState.PENDING,
            "size": len(users),
            "users": ",".join(users),
            "accepted": 0,
            "ambiguous": False,
        }
        if message is not None:
            row["message"] = message
        index.add(number, users)
        yield row
