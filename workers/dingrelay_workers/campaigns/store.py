"""The campaigns of all apps, in the database of the directory."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Text, cast, exists, insert, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.actor import current_actor
from dingrelay_producers.client.campaign_documents import CampaignPreview, CampaignStatus, Plan
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_producers.errors import CampaignConflict, CampaignNotFound
from dingrelay_producers.store import clock
from dingrelay_producers.store.states import CampaignStage
from dingrelay_producers.tracing import spans
from dingrelay_tasks.contract import batched
from dingrelay_tasks.sentence import with_parts
from dingrelay_workers.audit import service as audit
from dingrelay_workers.campaigns import lease, removal, sources
from dingrelay_workers.campaigns.audience import UNWATCHED, CreationProgress, Gathered, gather
from dingrelay_workers.campaigns.chunks import pending_row, storable
from dingrelay_workers.campaigns.documents import CampaignSpec, DraftContent
from dingrelay_workers.campaigns.models import (
    HIDDEN,
    LANE,
    CampaignRow,
    ChunkRow,
    IndexRow,
    MalformedRow,
    ReviewRow,
    State,
)
from dingrelay_workers.campaigns.people import with_issuers
from dingrelay_workers.campaigns.people_index import PeopleIndex, bits_for
from dingrelay_workers.campaigns.sources import Written
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database, change_rows, latest_first, narrowed

ALL = CampaignFilter()
PAGE = 500
"""Chunks or outcomes read or written at once."""

Pages = Iterator[tuple[type[Base], list[dict[str, Any]]]]
"""Rows to insert, by their table."""
Check = Callable[[CampaignSpec, Gathered], Awaitable[CampaignPreview | None]]
"""Finds out what a campaign will take while it is made."""
STORED = {"app", "name", "start_at", "quiet", "rate", "weight", "error_share", "sender"}
"""Fields of a campaign's specification that are columns."""
UNCHECKED: Mapping[str, Any] = {
    "message": {},
    **dict.fromkeys(("recipients", "duplicates", "malformed", "unmatched", "excluded"), 0),
    **dict.fromkeys(("chunks", "settled"), 0),
    "checked": None,
    "named": None,
    "people_digest": "",
    "index_bits": None,
    "lease": None,
    "lease_at": None,
}
"""Columns of a draft, whose people are not known yet."""


class WritingRight(NamedTuple):
    """The right to write a campaign's people."""

    campaign: str
    lease: str


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
        body: Callable[..., Any] | None = None,
    ) -> CampaignStatus:
        """Make a campaign with its recipients that is ready: all of it or, whatever happens, nothing.

        One with this id whose process died is written again.

        Args:
            plan: what is sent, and how, and to which people.
            campaign: its id; a new one by default.
            progress: follows the creation.
            writers: who wrote it, and so may not approve it; the actor by default.
            check: whose result is kept.
            body: of the verb that makes it, for its row in the audit; None for no row.

        Raises:
            MalformedRecipients: there are malformed rows, and they are refused.
            ContractError: the plan is invalid, or no recipient is left of it.
            CampaignConflict: there is one with this id, or it is being made or deleted.
        """
        spec = CampaignSpec.of(plan)
        plan, written = sources.kept(plan)
        names = list(dict.fromkeys(writers or [current_actor().id]))
        claim = WritingRight(campaign or str(uuid.uuid4()), lease.new())
        row = empty_row(claim.campaign, written, names[0])
        row |= {"state": State.CREATING, "writers": names}
        async with self._gathered(spec, plan, progress, check) as (gathered, found):
            await self._insert(row, claim)
            try:
                return await self._write(claim, spec, gathered, progress, found, body)
            except BaseException:
                # The leader deletes later what can't be deleted now; it is hidden.
                with suppress(SQLAlchemyError):
                    await self._give_up(claim)
                raise

    async def freeze(
        self,
        row: CampaignRow,
        plan: Plan,
        by: str,
        *,
        check: Check | None = None,
        body: Callable[..., Any] | None = None,
    ) -> CampaignStatus:
        """Make a draft ready as it was read: its people become rows, and all of it stays as it is; `body` as of `create`.

        Raises:
            MalformedRecipients, ContractError: as `create`.
            CampaignConflict: it was changed since, or is being made ready.
        """
        spec = CampaignSpec.of(plan)
        async with self._gathered(spec, plan, UNWATCHED, check) as (gathered, found):
            claim = WritingRight(row.id, lease.new())
            async with self._writing(row.id) as connection:
                at = await lease.now(connection)
                same = row_of(row.id, stage=CampaignStage.DRAFT, version=row.version)
                values: dict[str, Any] = {"lease": claim.lease, "lease_at": at}
                values["writers"] = list(dict.fromkeys([*(row.writers or ()), by]))
                values["issuers"] = with_issuers(row.issuers)
                if not await change_rows(connection, CampaignRow, *same, lease.free(at), **values):
                    raise CampaignConflict(row.id, "is being made ready, or was changed just now")
            try:
                return await self._write(claim, spec, gathered, UNWATCHED, found, body)
            except BaseException:
                with suppress(SQLAlchemyError):
                    async with self._writing(row.id) as connection:
                        held = CampaignRow.id == row.id, CampaignRow.lease == claim.lease
                        await change_rows(connection, CampaignRow, *held, lease_at=None)
                raise

    async def get(self, campaign: str) -> CampaignRow:
        """The campaign with this id.

        Raises:
            CampaignNotFound: there is none.
        """
        async with self.database.read() as connection:
            return await find(connection, campaign)

    async def list(
        self,
        chosen: CampaignFilter = ALL,
        *,
        limit: int,
        after: tuple[datetime, str] | None = None,
        submitted: bool = False,
    ) -> Sequence[CampaignRow]:
        """The latest campaigns, latest first: at most `limit`, after one with this moment of creation and this id.

        With `submitted` those that were submitted for approval may be of another sender than the one that is chosen.
        """
        row, sender = CampaignRow, chosen.sender
        if submitted:
            chosen = replace(chosen, sender=None)
        query = narrowed(select(row).where(row.state.not_in(HIDDEN)), row, chosen)
        query = query.where(*_fit(chosen))
        if submitted and sender is not None:
            reviewed = exists().where(ReviewRow.campaign == row.id)
            query = query.where(or_(row.sender == sender, reviewed))
        page = latest_first(query, row.created_at, row.id, behind=after, limit=limit)
        async with self.database.read() as connection, AsyncSession(connection) as session:
            return list(await session.scalars(page))

    @asynccontextmanager
    async def _gathered(
        self, spec: CampaignSpec, plan: Plan, progress: CreationProgress, check: Check | None
    ) -> AsyncGenerator[tuple[Gathered, CampaignPreview | None]]:
        """The people of a plan, and what its check finds, while the block runs."""
        async with gather(self.database, spec, plan, progress) as gathered:
            with spans.span("create campaign", "INTERNAL") as span:
                span.set_attributes({"dingrelay.app": spec.app})
                yield gathered, await check(spec, gathered) if check else None

    def _writing(self, campaign: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction with the lock of a campaign: on PostgreSQL no other writer waits for it."""
        return self.database.write(f"campaign {campaign}")

    async def _insert(self, row: Mapping[str, Any], claim: WritingRight) -> None:
        """Insert a campaign that is being made, or take over one whose process died."""
        async with self._writing(claim.campaign) as connection:
            at = await lease.now(connection)
            values = {**row, "lease": claim.lease, "lease_at": at}
            died = CampaignRow.state == State.CREATING, lease.expired(at)
            of_campaign = CampaignRow.id == claim.campaign
            if await change_rows(connection, CampaignRow, of_campaign, *died, **values):
                return
            await insert_new(connection, values)

    async def _write(
        self,
        claim: WritingRight,
        spec: CampaignSpec,
        gathered: Gathered,
        progress: CreationProgress,
        found: CampaignPreview | None,
        body: Callable[..., Any] | None,
    ) -> CampaignStatus:
        """Write its people in transactions that are short, and make it ready in the last one."""
        campaign, people = claim.campaign, gathered.recipients
        bits, digest = bits_for(people), hashlib.sha256()
        pages = _pages(campaign, spec, gathered, PeopleIndex(campaign, bits), digest.update)
        while await self._clear_some(claim):
            await self.database.let_others_write()
        while await self._write_some(claim, pages, people, progress):
            await self.database.let_others_write()
        people_of_check = {
            "skipped": [
                with_parts({**dict(row), "problem": storable(row.problem)})
                for row in gathered.skipped
            ],
            "absent": found.absent if found else [],
        }
        values = {
            **spec.model_dump(include=STORED),
            "message": spec.template.message,
            "recipients": people,
            "duplicates": gathered.duplicates,
            "malformed": gathered.malformed,
            "unmatched": gathered.unmatched,
            "excluded": gathered.excluded,
            "checked": found and _figures(found),
            "named": people_of_check if any(people_of_check.values()) else None,
            "chunks": gathered.staging.count_chunks(spec.users_per_call),
            "people_digest": digest.hexdigest(),
            "index_bits": bits,
            "trace": spans.current(),
            "lease_at": None,
        }
        async with self._writing(campaign) as connection:
            await lease.renew(connection, campaign, claim.lease)
            row = await find(connection, campaign, hidden=True)
            if row.state == State.CREATING:
                values |= {"state": State.DRAFT, "created_at": clock.now()}
            await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **values)
            if body is not None:
                shown = {
                    "app": spec.app,
                    "lane": LANE,
                    "after": {"name": spec.name, "people": people},
                }
                await audit.record_verb(connection, body, campaign, **shown)
            return CampaignStatus.model_validate(await find(connection, campaign))

    async def _clear_some(self, claim: WritingRight) -> bool:
        """Delete some rows that were left over of an earlier time; whether there may be more."""
        async with self._writing(claim.campaign) as connection:
            await lease.renew(connection, claim.campaign, claim.lease)
            return await removal.remove_people(connection, claim.campaign, seconds=removal.HELD)

    async def _write_some(
        self, claim: WritingRight, pages: Pages, people: int, progress: CreationProgress
    ) -> bool:
        """Write pages in one transaction for a while; whether there are more."""
        async with self._writing(claim.campaign) as connection:
            await lease.renew(connection, claim.campaign, claim.lease)
            began = time.monotonic()
            for table, page in pages:
                await connection.execute(insert(table), page)
                if table is ChunkRow:
                    progress.written(sum(chunk["size"] for chunk in page), people)
                _heed_cancellation()
                if time.monotonic() - began > removal.HELD:
                    return True
        return False

    async def _give_up(self, claim: WritingRight) -> None:
        """Delete a campaign that could not be made."""
        async with self._writing(claim.campaign) as connection:
            # Perhaps it is ready, and only the answer of the database was lost.
            states = CampaignRow.state.in_([State.CREATING, State.DRAFT])
            held = CampaignRow.id == claim.campaign, CampaignRow.lease == claim.lease, states
            await change_rows(connection, CampaignRow, *held, state=State.DELETING)
        await removal.remove(self.database, claim.campaign)


def _figures(found: CampaignPreview) -> dict[str, Any]:
    """The part of a check that is kept for good: all of it that names no person."""
    figures = found.model_dump(mode="json", exclude={"first", "skipped", "absent"})
    return with_parts({**figures, "limit": found.limit})


def _heed_cancellation() -> None:
    """Stop a cancelled task: a driver may swallow that (before 3.12 `wait_for` does)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def find(connection: AsyncConnection, campaign: str, *, hidden: bool = False) -> CampaignRow:
    """The campaign with this id.

    Raises:
        CampaignNotFound: there is none, or only one that is being created or deleted, which are `hidden`.
    """
    async with AsyncSession(connection) as session:
        row = await session.get(CampaignRow, campaign)
    if row is None or (row.state in HIDDEN and not hidden):
        raise CampaignNotFound(campaign)
    return row


async def insert_new(connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Insert the row of a campaign whose id no other one has or had a moment ago.

    Raises:
        CampaignConflict: there is one with this id, be it hidden.
    """
    same = select(CampaignRow.id).where(CampaignRow.id == row["id"])
    if await connection.scalar(same) is not None:
        raise CampaignConflict(row["id"], "was created already, or is being created or deleted")
    await connection.execute(insert(CampaignRow), row)


def empty_row(campaign: str, written: Written, by: str) -> dict[str, Any]:
    """The row of a campaign without people, as it was written."""
    now = clock.now()
    return {
        **columns_of(written.content),
        **UNCHECKED,
        "id": campaign,
        "state": State.DRAFT,
        "reason": "",
        "created_at": now,
        **dict.fromkeys(("accepted", "left_out", "failed", "calls"), 0),
        "trace": "",
        "writers": [by],
        "issuers": with_issuers(()),
        "file": written.file,
        "file_name": written.file_name,
        "version": 1,
        "created_by": by,
        "updated_by": by,
        "updated_at": now,
    }


def columns_of(content: DraftContent) -> dict[str, Any]:
    """The columns that say what is written of a campaign."""
    document = content.model_dump(mode="json", exclude_defaults=True)
    return {**content.model_dump(include=STORED), "content": document}


def row_of(
    campaign: str, *, stage: Literal[CampaignStage.DRAFT, CampaignStage.READY], version: int
) -> tuple[ColumnElement[bool], ...]:
    """The condition of a campaign that was not started and is in this stage, in this version."""
    of_stage = CampaignRow.in_stage(stage)
    return CampaignRow.id == campaign, of_stage, CampaignRow.version == version


def _fit(chosen: CampaignFilter) -> Iterator[ColumnElement[bool]]:
    """The conditions of a filter beside those that `narrowed` makes."""
    row = CampaignRow
    if chosen.name is not None:
        yield row.name.icontains(chosen.name, autoescape=True)
    if chosen.writer is not None:
        yield cast(row.writers, Text).contains(json.dumps(chosen.writer), autoescape=True)
    if chosen.stage is not None:
        yield row.in_stage(CampaignStage(chosen.stage))
    if chosen.since is not None:
        yield row.created_at >= chosen.since
    if chosen.until is not None:
        yield row.created_at < chosen.until


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
        row = pending_row(campaign, number, users)
        if message is not None:
            row["message"] = message
        index.add(number, users)
        yield row
