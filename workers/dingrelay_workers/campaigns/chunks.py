"""The chunks of campaigns in SQL: released, settled and given back, many in one transaction."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    ColumnElement,
    Select,
    and_,
    bindparam,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dingrelay_producers.client.outcomes import OUTCOMES
from dingrelay_tasks.contract import batched
from dingrelay_tasks.sentence import Sentence, en, with_parts
from dingrelay_workers.campaigns.models import (
    CampaignRow,
    ChunkRow,
    ChunkState,
    IndexRow,
    OutcomeKind,
    OutcomeRow,
    State,
)
from dingrelay_workers.campaigns.people_index import PeopleIndex
from dingrelay_workers.database import database
from dingrelay_workers.database.database import change_rows, insert_missing
from dingrelay_workers.metrics import Series

CANCELLED = {
    "class": "cancelled",
    "code": "cancelled",
    "message": en("the campaign was cancelled before this call"),
    "hint": "",
}
"""The error of a chunk that its campaign no longer sends."""

FRONTIER = 2 * database.CHUNK
"""Chunks behind the last released one whose records may have been left behind by a crash."""


class Release(NamedTuple):
    """One time at which a chunk was made queued. Its job's id is made of it."""

    number: int
    generation: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to enqueue. `message` is None where the campaign's own is sent.

    Attributes:
        released: when it was.
        repeated: an earlier job of this release was lost, and may have made the call.
    """

    release: Release
    users: list[str]
    message: Mapping[str, Any] | None
    released: datetime
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class ChunkEnding:
    """How the job of a release ended.

    Attributes:
        left_out: outcome → people left out with it.
        unverified: people in the call whose existence is not confirmed.
        error: class, code, message and hint, if DingTalk accepted no call.
        lost: the error is that the job's record is gone: not a failure of DingTalk's.
    """

    release: Release
    task_id: int | None = None
    called_at: datetime | None = None
    accepted: int = 0
    ambiguous: bool = False
    left_out: Mapping[OutcomeKind, Sequence[str]] = field(
        default_factory=dict[OutcomeKind, Sequence[str]]
    )
    unverified: Sequence[str] = ()
    error: Mapping[str, Any] | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Counts:
    """The sums that some endings add to a campaign's counters.

    Attributes:
        lost: people among the failed of whose chunks nothing is known.
    """

    settled: int
    accepted: int
    left_out: int
    failed: int
    cancelled: int
    calls: int
    lost: int = 0


def _has(*states: ChunkState) -> ColumnElement[bool]:
    of_campaign = ChunkRow.campaign == CampaignRow.id
    return exists().where(of_campaign, ChunkRow.state.in_(states))


def _where(wanted: ColumnElement[bool]) -> Select[CampaignRow]:
    return select(CampaignRow).where(wanted).order_by(CampaignRow.created_at, CampaignRow.id)


_ACTIVE = _where(
    or_(
        CampaignRow.state == State.RUNNING,
        and_(CampaignRow.state == State.PAUSED, _has(ChunkState.QUEUED)),
        and_(CampaignRow.state == State.CANCELLED, _has(ChunkState.QUEUED, ChunkState.PENDING)),
    )
)
_QUEUED = (
    select(ChunkRow.number, ChunkRow.generation, ChunkRow.called_at)
    .where(ChunkRow.campaign == bindparam("campaign"), ChunkRow.state == ChunkState.QUEUED)
    .order_by(ChunkRow.number)
)
_PENDING = CampaignRow.recipients - CampaignRow.accepted - CampaignRow.left_out - CampaignRow.failed
_STANDING = (
    select(CampaignRow.app, CampaignRow.state, func.count(), func.sum(_PENDING))
    .where(CampaignRow.state.in_([State.RUNNING, State.PAUSED]))
    .group_by(CampaignRow.app, CampaignRow.state)
    .order_by(CampaignRow.app, CampaignRow.state)
)


async def active(connection: AsyncConnection) -> list[CampaignRow]:
    """The campaigns that run, and those that are paused or cancelled with chunks still queued, or cancelled with pending ones."""
    return await _campaigns(connection, _ACTIVE)


async def standing(connection: AsyncConnection) -> Series:
    """How many campaigns run or are paused, by application and state, for the metrics."""
    rows = (await connection.execute(_STANDING)).all()
    return {
        "campaigns": [((app, state), count) for app, state, count, _ in rows],
        "campaign_people_left": [((app, state), int(people)) for app, state, _, people in rows],
    }


async def recently_ended(connection: AsyncConnection, since: datetime) -> list[CampaignRow]:
    """The campaigns that ended since then."""
    return await _campaigns(connection, _where(CampaignRow.ended_at >= since))


async def read(connection: AsyncConnection, campaign: str) -> CampaignRow | None:
    """The campaign as it is now: what a transaction that changes it must go by. None if it was deleted."""
    return next(iter(await _campaigns(connection, _where(CampaignRow.id == campaign))), None)


async def _campaigns(connection: AsyncConnection, query: Select[CampaignRow]) -> list[CampaignRow]:
    async with AsyncSession(connection) as session:
        return list(await session.scalars(query))


async def queued(connection: AsyncConnection, campaign: str) -> dict[Release, datetime]:
    """The campaign's chunks that have a job → when they were released."""
    rows = await connection.execute(_QUEUED, {"campaign": campaign})
    return {Release(number, generation): _known(at) for number, generation, at in rows}


def _known(released: datetime | None) -> datetime:
    assert released is not None, "a queued chunk was released"
    return released


async def left_behind(connection: AsyncConnection, campaign: str) -> list[Release]:
    """Releases that are over and near the last one: a crash may have left their records behind."""
    number, generation = ChunkRow.number, ChunkRow.generation
    settled = ChunkRow.in_state(campaign, ChunkState.SETTLED)
    # Chunks are released in their order, so those that were given back are the first that wait.
    pending = ChunkRow.in_state(campaign, ChunkState.PENDING)
    again = ChunkRow.in_state(campaign, ChunkState.QUEUED), generation > 1
    releases: list[Release] = []
    for query in (
        select(number, generation).where(settled).order_by(number.desc()).limit(FRONTIER),
        select(number, generation).where(pending).order_by(number).limit(FRONTIER),
        select(number, generation - 1).where(*again),
    ):
        releases += [Release(*row) for row in await connection.execute(query)]
    return releases


async def still_queued(
    connection: AsyncConnection, campaign: str, releases: Collection[Release]
) -> dict[Release, int]:
    """The releases that are not over → the size of their chunk."""
    query = select(ChunkRow.number, ChunkRow.generation, ChunkRow.size)
    query = query.where(ChunkRow.in_state(campaign, ChunkState.QUEUED))
    numbers, sought = [release.number for release in releases], set(releases)
    rows = await database.rows_among(connection, query, ChunkRow.number, numbers)
    sizes = {Release(number, generation): size for number, generation, size in rows}
    return {release: size for release, size in sizes.items() if release in sought}


async def settle(
    connection: AsyncConnection, campaign: str, endings: Sequence[ChunkEnding]
) -> Counts:
    """Write how releases ended; only those that are not over, so each chunk counts once."""
    sizes = await still_queued(connection, campaign, [ending.release for ending in endings])
    fresh = [ending for ending in endings if ending.release in sizes]
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
                "chunk": ending.release.number,
                "task": ending.task_id,
                "at": ending.called_at,
                "people": ending.accepted,
                "repeated": ending.ambiguous,
                "problem": ending.error and with_parts(storable(ending.error)),
            }
            for ending in fresh
        ],
    )
    await insert_missing(connection, OutcomeRow, _outcomes(campaign, fresh))
    counts = _counts(fresh, sizes)
    await _count(connection, campaign, counts)
    return counts


def _outcomes(campaign: str, endings: Sequence[ChunkEnding]) -> list[dict[str, Any]]:
    return [
        outcome_row(campaign, ending.release.number, user, outcome, OUTCOMES[outcome].reason)
        for ending in endings
        for outcome, users in {**ending.left_out, OutcomeKind.UNVERIFIED: ending.unverified}.items()
        for user in users
    ]


def outcome_row(
    campaign: str, chunk: int, user: str, outcome: OutcomeKind, reason: str
) -> dict[str, Any]:
    """The row of a person whose outcome differs from the chunk's."""
    known = {"campaign": campaign, "userid": user, "chunk": chunk, "outcome": outcome}
    return {**known, "reason": storable(reason)}


def _counts(endings: Sequence[ChunkEnding], sizes: Mapping[Release, int]) -> Counts:
    failed = [ending for ending in endings if ending.error and ending.error != CANCELLED]
    return Counts(
        settled=len(endings),
        accepted=sum(ending.accepted for ending in endings),
        left_out=sum(len(users) for ending in endings for users in ending.left_out.values()),
        failed=sum(sizes[ending.release] for ending in failed),
        cancelled=sum(sizes[ending.release] for ending in endings if ending.error == CANCELLED),
        calls=sum(ending.task_id is not None for ending in endings),
        lost=sum(sizes[ending.release] for ending in endings if ending.lost),
    )


async def _count(connection: AsyncConnection, campaign: str, counts: Counts) -> None:
    names = "settled", "accepted", "left_out", "failed", "calls"
    sums = {name: getattr(CampaignRow, name) + getattr(counts, name) for name in names}
    await change_rows(connection, CampaignRow, CampaignRow.id == campaign, **sums)


async def give_back(
    connection: AsyncConnection, campaign: str, releases: Sequence[Release]
) -> None:
    """Chunks whose jobs certainly made no call are pending again."""
    queued = await still_queued(connection, campaign, releases)
    for numbers in database.chunks([release.number for release in queued]):
        page = ChunkRow.campaign == campaign, ChunkRow.number.in_(numbers)
        await change_rows(connection, ChunkRow, *page, state=ChunkState.PENDING, called_at=None)


async def cancel_pending(connection: AsyncConnection, campaign: str, seconds: float) -> bool:
    """End chunks that have no job, pages of them for so long; whether there may be more."""
    began = time.monotonic()
    pending = ChunkRow.in_state(campaign, ChunkState.PENDING)
    query = select(ChunkRow.number, ChunkRow.size).where(pending).order_by(ChunkRow.number)
    while rows := (await connection.execute(query.limit(database.CHUNK))).all():
        page = ChunkRow.campaign == campaign, ChunkRow.number.in_([row.number for row in rows])
        await change_rows(connection, ChunkRow, *page, state=ChunkState.SETTLED, error=CANCELLED)
        people = sum(row.size for row in rows)
        await _count(connection, campaign, Counts(len(rows), 0, 0, 0, people, 0))
        if time.monotonic() - began >= seconds:
            return True
    return False


async def release(
    connection: AsyncConnection, campaign: str, most: int, now: datetime
) -> list[Chunk]:
    """Make the next pending chunks queued; they are to be enqueued after the commit.

    Until a chunk is called, its `called_at` is when it was released: a lost job is repeated on
    that Beijing day only.
    """
    rows = await connection.execute(
        select(ChunkRow.number, ChunkRow.generation + 1, ChunkRow.users, ChunkRow.message)
        .where(ChunkRow.in_state(campaign, ChunkState.PENDING))
        .order_by(ChunkRow.number)
        .limit(most)
    )
    released = [
        Chunk(Release(number, generation), users.split(","), message, now)
        for number, generation, users, message in rows
    ]
    for numbers in database.chunks([chunk.release.number for chunk in released]):
        page = ChunkRow.campaign == campaign, ChunkRow.number.in_(numbers)
        queued = {"state": ChunkState.QUEUED, "generation": ChunkRow.generation + 1}
        await change_rows(connection, ChunkRow, *page, called_at=now, **queued)
    return released


async def lost(
    connection: AsyncConnection, campaign: str, releases: Collection[Release]
) -> list[Chunk]:
    """Chunks of the releases that are not over, to be enqueued again."""
    row = ChunkRow
    query = select(row.number, row.generation, row.users, row.message, row.called_at)
    numbers = [release.number for release in await still_queued(connection, campaign, releases)]
    query = query.where(row.campaign == campaign)
    return [
        Chunk(Release(number, generation), users.split(","), message, _known(at), repeated=True)
        for number, generation, users, message, at in await database.rows_among(
            connection, query, row.number, numbers
        )
    ]


def storable(value: Any) -> Any:
    """A JSON value, or a text, as every database takes it: no NUL, no half of a character."""
    if isinstance(value, Sentence) and value.values:
        return Sentence(storable(value.template), *map(storable, value.values))
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: storable(item) for name, item in value.items()}
    return value


def pending_row(campaign: str, number: int, users: Sequence[str]) -> dict[str, Any]:
    """The row of a chunk that waits, to these people."""
    return {
        "campaign": campaign,
        "number": number,
        "state": ChunkState.PENDING,
        "size": len(users),
        "users": ",".join(users),
        "accepted": 0,
        "ambiguous": False,
    }


async def next_number(connection: AsyncConnection, campaign: str) -> int:
    """The number of a chunk behind all others of a campaign."""
    query = select(func.max(ChunkRow.number)).where(ChunkRow.campaign == campaign)
    return (await connection.scalar(query) or 0) + 1


async def split(connection: AsyncConnection, campaign: str, most: int, users_per_call: int) -> None:
    """Make those of the next pending chunks that are too large several ones.

    The first people stay where they are, and the others get chunks behind all others.

    Args:
        connection: in whose transaction they are released afterwards.
        campaign: whose chunks they are.
        most: how many chunks will be released.
        users_per_call: how many people one may have.
    """
    rows = await connection.execute(
        select(ChunkRow.number, ChunkRow.size, ChunkRow.users, ChunkRow.message)
        .where(ChunkRow.in_state(campaign, ChunkState.PENDING))
        .order_by(ChunkRow.number)
        .limit(most)
    )
    large = [row for row in rows if row.size > users_per_call]
    if not large:
        return
    first = number = await next_number(connection, campaign)
    moved: dict[int, list[str]] = {}
    for row in large:
        kept, *others = batched(row.users.split(","), users_per_call)
        chunk = ChunkRow.campaign == campaign, ChunkRow.number == row.number
        await change_rows(connection, ChunkRow, *chunk, users=",".join(kept), size=len(kept))
        for users in others:
            new = pending_row(campaign, number, users)
            await connection.execute(insert(ChunkRow).values(**new, message=row.message))
            moved[number] = users
            number += 1
    chunks = CampaignRow.chunks + len(moved)
    await change_rows(connection, CampaignRow, CampaignRow.id == campaign, chunks=chunks)
    await _index(connection, campaign, moved, part=first)


async def _index(
    connection: AsyncConnection, campaign: str, moved: dict[int, list[str]], *, part: int
) -> None:
    """Note where the people are now. A number of a chunk is greater than any part before it."""
    bits = await connection.scalar(select(CampaignRow.index_bits).where(CampaignRow.id == campaign))
    if bits is None:
        return
    index = PeopleIndex(campaign, bits, part=part)
    for number, users in moved.items():
        index.add(number, users)
    await connection.execute(insert(IndexRow), list(index.rows()))
