"""The chunks of campaigns in SQL: released, settled and given back, many in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, and_, bindparam, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.message import digest
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.directory import database
from dingrelay_workers.directory.database import Database, insert_missing

CANCELLED = {
    "class": "cancelled",
    "code": "cancelled",
    "message": "the campaign was cancelled before this call",
    "hint": "",
}
"""The error of a chunk that its campaign no longer sends."""

FRONTIER = 2 * database.CHUNK
"""Chunks behind the last released one whose records may have been left behind by a crash."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as the pump sees it."""

    id: str
    app: str
    state: State
    message: Mapping[str, Any]
    start_at: datetime | None
    quiet: str
    rate: int | None
    weight: int
    error_share: float
    recipients: int
    chunks: int
    settled: int
    accepted: int
    left_out: int
    failed: int

    @property
    def chunk_size(self) -> int:
        """People in one of its chunks, about."""
        return -(-self.recipients // max(1, self.chunks))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to enqueue. `message` is None where the campaign's own is sent."""

    number: int
    users: list[str]
    message: Mapping[str, Any] | None
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a chunk ended.

    Attributes:
        left_out: outcome → who was left out so.
        error: class, code, message and hint, if no call was taken for it.
    """

    number: int
    task_id: int | None = None
    called_at: datetime | None = None
    accepted: int = 0
    ambiguous: bool = False
    left_out: Mapping[OutcomeKind, Sequence[str]] = field(
        default_factory=dict[OutcomeKind, Sequence[str]]
    )
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """What some endings add to a campaign's counters."""

    settled: int
    accepted: int
    left_out: int
    failed: int
    cancelled: int
    calls: int


async def active(connection: AsyncConnection) -> list[Campaign]:
    """The campaigns that run, and those that are paused or cancelled with chunks still queued."""
    queued = exists().where(
        ChunkRow.campaign == CampaignRow.id, ChunkRow.state == ChunkState.QUEUED
    )
    halted = CampaignRow.state.in_([State.PAUSED, State.CANCELLED])
    columns = [getattr(CampaignRow, name) for name in Campaign.__slots__]
    rows = await connection.execute(
        select(*columns)
        .where(or_(CampaignRow.state == State.RUNNING, and_(halted, queued)))
        .order_by(CampaignRow.created_at, CampaignRow.id)
    )
    return [Campaign(**row, state=State(state)) for row, state in _with_state(rows.mappings())]


def _with_state(rows: Any) -> list[tuple[dict[str, Any], str]]:
    split = [dict(row) for row in rows]
    return [(row, row.pop("state")) for row in split]


async def queued(connection: AsyncConnection, campaign: str) -> dict[int, datetime]:
    """The campaign's chunks that have a job → when it was made."""
    rows = await connection.execute(
        select(ChunkRow.number, ChunkRow.called_at)
        .where(ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.QUEUED)
        .order_by(ChunkRow.number)
    )
    return {number: at or datetime.now(UTC) for number, at in rows}


async def lately_settled(connection: AsyncConnection, campaign: str) -> list[int]:
    """The chunks that were settled last, by their place in the campaign."""
    rows = await connection.scalars(
        select(ChunkRow.number)
        .where(ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.SETTLED)
        .order_by(ChunkRow.number.desc())
        .limit(FRONTIER)
    )
    return list(rows)


async def still_queued(
    connection: AsyncConnection, campaign: str, numbers: Sequence[int]
) -> dict[int, int]:
    """Those of the chunks that are queued → their size."""
    found: dict[int, int] = {}
    for some in database.chunks(numbers):
        rows = await connection.execute(
            select(ChunkRow.number, ChunkRow.size).where(
                ChunkRow.campaign == campaign,
                ChunkRow.state == ChunkState.QUEUED,
                ChunkRow.number.in_(some),
            )
        )
        found |= {row.number: row.size for row in rows}
    return found


async def settle(connection: AsyncConnection, campaign: str, endings: Sequence[Ending]) -> Counts:
    """Write how chunks ended; only those that are queued still, so each counts once."""
    sizes = await still_queued(connection, campaign, [ending.number for ending in endings])
    fresh = [ending for ending in endings if ending.number in sizes]
    if not fresh:
        return Counts(0, 0, 0, 0, 0, 0)
    await connection.execute(
        update(ChunkRow)
        .where(ChunkRow.campaign == campaign, ChunkRow.number == bindparam("chunk"))
        .values(
            state=ChunkState.SETTLED,
            task_id=bindparam("task"),
            called_at=bindparam("at"),
            accepted=bindparam("people"),
            ambiguous=bindparam("repeated"),
            error=bindparam("problem", type_=JSON(none_as_null=True)),
        )
        .execution_options(synchronize_session=False),
        [
            {
                "chunk": ending.number,
                "task": ending.task_id,
                "at": ending.called_at,
                "people": ending.accepted,
                "repeated": ending.ambiguous,
                "problem": ending.error,
            }
            for ending in fresh
        ],
    )
    await insert_missing(connection, OutcomeRow, _outcomes(campaign, fresh))
    counts = _counts(fresh, sizes)
    await _count(connection, campaign, counts)
    return counts


def _outcomes(campaign: str, endings: Sequence[Ending]) -> list[dict[str, Any]]:
    reasons = {
        OutcomeKind.DUPLICATE: "had this content already that day",
        OutcomeKind.DAILY_CAP: "had had the day's messages",
    }
    return [
        {
            "campaign": campaign,
            "userid": user,
            "chunk": ending.number,
            "outcome": outcome,
            "reason": reasons[outcome],
        }
        for ending in endings
        for outcome, users in ending.left_out.items()
        for user in users
    ]


def _counts(endings: Sequence[Ending], sizes: Mapping[int, int]) -> Counts:
    failed = [ending for ending in endings if ending.error and ending.error != CANCELLED]
    return Counts(
        settled=len(endings),
        accepted=sum(ending.accepted for ending in endings),
        left_out=sum(len(users) for ending in endings for users in ending.left_out.values()),
        failed=sum(sizes[ending.number] for ending in failed),
        cancelled=sum(sizes[ending.number] for ending in endings if ending.error == CANCELLED),
        calls=sum(ending.task_id is not None for ending in endings),
    )


async def _count(connection: AsyncConnection, campaign: str, counts: Counts) -> None:
    await connection.execute(
        update(CampaignRow)
        .where(CampaignRow.id == campaign)
        .values(
            settled=CampaignRow.settled + counts.settled,
            accepted=CampaignRow.accepted + counts.accepted,
            left_out=CampaignRow.left_out + counts.left_out,
            failed=CampaignRow.failed + counts.failed,
            calls=CampaignRow.calls + counts.calls,
        )
    )


async def give_back(connection: AsyncConnection, campaign: str, numbers: Sequence[int]) -> None:
    """Queued chunks whose jobs certainly made no call are pending again."""
    for some in database.chunks(numbers):
        await connection.execute(
            update(ChunkRow)
            .where(
                ChunkRow.campaign == campaign,
                ChunkRow.state == ChunkState.QUEUED,
                ChunkRow.number.in_(some),
            )
            .values(state=ChunkState.PENDING, called_at=None)
        )


async def cancel_pending(connection: AsyncConnection, campaign: str) -> int:
    """End the chunks that have no job; how many people are in them."""
    pending = (ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.PENDING)
    number, people = (
        await connection.execute(
            select(func.count(), func.coalesce(func.sum(ChunkRow.size), 0)).where(*pending)
        )
    ).one()
    await connection.execute(
        update(ChunkRow).where(*pending).values(state=ChunkState.SETTLED, error=CANCELLED)
    )
    await _count(connection, campaign, Counts(number, 0, 0, 0, people, 0))
    return people


async def release(
    connection: AsyncConnection, campaign: str, most: int, now: datetime
) -> list[Chunk]:
    """Make the next pending chunks queued; they are to be enqueued after the commit.

    Until a chunk is called, its `called_at` is when it was released: a lost job is repeated on
    that Beijing day only.
    """
    rows = await connection.execute(
        select(ChunkRow.number, ChunkRow.users, ChunkRow.message)
        .where(ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.PENDING)
        .order_by(ChunkRow.number)
        .limit(most)
    )
    released = [Chunk(number, users.split(","), message) for number, users, message in rows]
    for some in database.chunks([chunk.number for chunk in released]):
        await connection.execute(
            update(ChunkRow)
            .where(ChunkRow.campaign == campaign, ChunkRow.number.in_(some))
            .values(state=ChunkState.QUEUED, called_at=now)
        )
    return released


async def lost(connection: AsyncConnection, campaign: str, numbers: Sequence[int]) -> list[Chunk]:
    """Those of the chunks that are queued still, to be enqueued again."""
    found: list[Chunk] = []
    for some in database.chunks(numbers):
        rows = await connection.execute(
            select(ChunkRow.number, ChunkRow.users, ChunkRow.message).where(
                ChunkRow.campaign == campaign,
                ChunkRow.state == ChunkState.QUEUED,
                ChunkRow.number.in_(some),
            )
        )
        found += [
            Chunk(number, users.split(","), message, repeated=True)
            for number, users, message in rows
        ]
    return found


async def reached(
    source: Database,
    users: Sequence[str],
    campaigns: Sequence[str],
    content: str,
    since: datetime,
) -> tuple[set[str], list[tuple[str, int, list[str]]]]:
    """What these campaigns have to do with the users since a moment.

    Chunks hold their users as text, so each user is a scan: fit for a few users, rarely.

    Args:
        source: where the campaigns are.
        users: who is asked about.
        campaigns: whose chunks are looked at.
        content: digest of the message; chunks with a message of their own may have another.
        since: the start of the day.

    Returns:
        Whom they have called, and campaign, number and users of chunks that have a job.
    """
    called: set[str] = set()
    coming: list[tuple[str, int, list[str]]] = []
    if not users or not campaigns:
        return called, coming
    columns = (ChunkRow.campaign, ChunkRow.number, ChunkRow.state, ChunkRow.users)
    async with source.read() as connection:
        for some in database.chunks(users):
            holds = [
                ("," + ChunkRow.users + ",").contains(f",{user},", autoescape=True) for user in some
            ]
            rows = await connection.execute(
                select(*columns, ChunkRow.message).where(
                    ChunkRow.campaign.in_(campaigns),
                    or_(ChunkRow.state == ChunkState.QUEUED, ChunkRow.called_at >= since),
                    or_(*holds),
                )
            )
            left_out = await connection.execute(
                select(OutcomeRow.campaign, OutcomeRow.userid).where(
                    OutcomeRow.campaign.in_(campaigns), OutcomeRow.userid.in_(some)
                )
            )
            others = {(campaign, user) for campaign, user in left_out}
            for campaign, number, state, text, message in rows:
                if message is not None and digest(message) != content:
                    continue
                here = {user for user in text.split(",") if (campaign, user) not in others}
                if state == ChunkState.QUEUED:
                    coming.append((campaign, number, sorted(here & {*some})))
                else:
                    called |= here & {*some}
    return called, coming
