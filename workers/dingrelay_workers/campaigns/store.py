"""The campaigns of all apps, in the database of the directory."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.errors import CampaignNotFound
from dingrelay_workers.campaigns.audience import Audience, Gathered, OnMalformed, gather
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState, OutcomeRow, State
from dingrelay_workers.campaigns.recipients import Malformed
from dingrelay_workers.campaigns.spec import CampaignSpec
from dingrelay_workers.directory.database import Database
from dingrelay_workers.directory.models import Base

PAGE = 500
"""Chunks or outcomes read or written at once."""

_Row = TypeVar("_Row", bound=Base)


@dataclass(frozen=True, slots=True)
class Created:
    """A new campaign.

    Attributes:
        excluded: people who were named and taken out.
        malformed: some of the rows that were skipped.
    """

    campaign: CampaignRow
    excluded: int
    malformed: tuple[Malformed, ...]


class CampaignStore:
    """Creates campaigns and reads them. The tables are made by `schema.upgrade`.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://…``.
    """

    def __init__(self, url: str) -> None:
        self.database = Database(url)

    async def create(
        self,
        spec: CampaignSpec,
        audience: Audience,
        *,
        malformed: OnMalformed = "refuse",
        on_malformed: Callable[[Malformed], None] | None = None,
        on_rows: Callable[[int], None] | None = None,
        on_written: Callable[[int, int], None] | None = None,
    ) -> Created:
        """Make a draft with its recipients: all of it or, whatever happens, nothing.

        Args:
            spec: what is sent, and how.
            audience: to whom.
            malformed: as `audience.gather`, and so are the next two.
            on_malformed: is told each malformed row.
            on_rows: is told how many rows were looked at.
            on_written: is told how many people of how many are written.

        Raises:
            MalformedRecipients: there are malformed rows, and they are refused.
            ContractError: the audience is wrong, or nobody is left of it.
        """
        async with gather(
            self.database,
            spec.app,
            spec.template,
            audience,
            malformed=malformed,
            on_malformed=on_malformed,
            on_rows=on_rows,
        ) as gathered:
            campaign = await self._write(spec, gathered, on_written)
        return Created(campaign, gathered.excluded, tuple(gathered.first_malformed))

    async def get(self, campaign: str) -> CampaignRow:
        """The campaign with this id.

        Raises:
            CampaignNotFound: there is none.
        """
        async with self.database.read() as connection:
            return await _find(connection, campaign)

    async def list(self, *, limit: int, app: str | None = None) -> Sequence[CampaignRow]:
        """The latest campaigns, latest first."""
        query = select(CampaignRow).order_by(CampaignRow.created_at.desc(), CampaignRow.id)
        if app is not None:
            query = query.where(CampaignRow.app == app)
        return await self._page(query.limit(limit))

    async def chunks(self, campaign: str) -> AsyncIterator[Sequence[ChunkRow]]:
        """All chunks in their order, in pages; no transaction stays open between pages."""
        query = select(ChunkRow).where(ChunkRow.campaign == campaign).order_by(ChunkRow.number)
        last = -1
        while page := await self._page(query.where(ChunkRow.number > last).limit(PAGE)):
            yield page
            last = page[-1].number

    async def outcomes(self, campaign: str) -> AsyncIterator[Sequence[OutcomeRow]]:
        """Who was not accepted, by userid, in pages; no transaction stays open between pages."""
        query = select(OutcomeRow).where(OutcomeRow.campaign == campaign)
        query = query.order_by(OutcomeRow.userid)
        last = ""
        while page := await self._page(query.where(OutcomeRow.userid > last).limit(PAGE)):
            yield page
            last = page[-1].userid

    async def close(self) -> None:
        """Close all connections."""
        await self.database.dispose()

    async def _write(
        self,
        spec: CampaignSpec,
        gathered: Gathered,
        on_written: Callable[[int, int], None] | None,
    ) -> CampaignRow:
        size = spec.users_per_call
        people = gathered.recipients
        campaign = str(uuid.uuid4())
        row = {
            "id": campaign,
            "app": spec.app,
            "name": spec.name,
            "state": State.DRAFT,
            "reason": "",
            "message": spec.template.message,
            "created_at": datetime.now(UTC),
            "start_at": spec.start_at,
            "quiet": spec.quiet,
            "rate": spec.rate,
            "weight": spec.weight,
            "error_share": spec.error_share,
            "recipients": people,
            "duplicates": gathered.duplicates,
            "malformed": gathered.malformed,
            "chunks": gathered.staging.count_chunks(size),
            **dict.fromkeys(("settled", "accepted", "left_out", "failed", "calls"), 0),
        }
        rows = _chunk_rows(campaign, spec, gathered)
        written = 0
        # A lock of its own: no writer has to wait for a campaign that nobody knows of yet.
        async with self.database.write(f"campaign {campaign}") as connection:
            await connection.execute(insert(CampaignRow), row)
            while page := list(islice(rows, PAGE)):
                await connection.execute(insert(ChunkRow), page)
                written += sum(chunk["size"] for chunk in page)
                if on_written is not None:
                    on_written(written, people)
                _heed_cancellation()
            return await _find(connection, campaign)

    async def _page(self, query: Select[_Row]) -> Sequence[_Row]:
        async with self.database.read() as connection, AsyncSession(connection) as session:
            return list(await session.scalars(query))


def _heed_cancellation() -> None:
    """Stop if the task was told to: a driver may swallow that (before 3.12 `wait_for` does)."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _find(connection: AsyncConnection, campaign: str) -> CampaignRow:
    async with AsyncSession(connection) as session:
        found = await session.get(CampaignRow, campaign)
    if found is None:
        raise CampaignNotFound(campaign)
    return found


def _chunk_rows(campaign: str, spec: CampaignSpec, gathered: Gathered) -> Iterator[dict[str, Any]]:
    """The rows of the chunks; `message` is there only where the campaign's own is no message."""
    for number, chunk in enumerate(gathered.staging.chunks(spec.users_per_call)):
        row: dict[str, Any] = {
            "campaign": campaign,
            "number": number,
            "state": ChunkState.PENDING,
            "size": len(chunk.users),
            "users": ",".join(chunk.users),
            "accepted": 0,
            "ambiguous": False,
        }
        if chunk.message is not None:
            row["message"] = chunk.message
        yield row
