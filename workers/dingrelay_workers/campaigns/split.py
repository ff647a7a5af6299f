"""Chunks that are larger than a call may be, because the app's limit of recipients is small.

A chunk is one call, so it is split in SQL just before it is released: a limit that was lowered while
the campaign ran holds too, and recall, confirm and report know one call a chunk as ever.
"""

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState, IndexRow
from dingrelay_workers.campaigns.people_index import PeopleIndex


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
        .where(ChunkRow.campaign == campaign, ChunkRow.state == ChunkState.PENDING)
        .order_by(ChunkRow.number)
        .limit(most)
    )
    large = [row for row in rows if row.size > users_per_call]
    if not large:
        return
    last = await connection.scalar(
        select(func.max(ChunkRow.number)).where(ChunkRow.campaign == campaign)
    )
    first = number = (last or 0) + 1
    moved: dict[int, list[str]] = {}
    for row in large:
        kept, *others = _parts(row.users.split(","), users_per_call)
        await connection.execute(
            update(ChunkRow)
            .where(ChunkRow.campaign == campaign, ChunkRow.number == row.number)
            .values(users=",".join(kept), size=len(kept))
        )
        for users in others:
            await connection.execute(
                insert(ChunkRow).values(
                    campaign=campaign,
                    number=number,
                    state=ChunkState.PENDING,
                    size=len(users),
                    users=",".join(users),
                    message=row.message,
                    accepted=0,
                    ambiguous=False,
                )
            )
            moved[number] = users
            number += 1
    await connection.execute(
        update(CampaignRow)
        .where(CampaignRow.id == campaign)
        .values(chunks=CampaignRow.chunks + len(moved))
    )
    await _index(connection, campaign, moved, part=first)


def _parts(users: list[str], size: int) -> list[list[str]]:
    return [users[start : start + size] for start in range(0, len(users), size)]


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
