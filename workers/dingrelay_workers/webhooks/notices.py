"""The notices that were passed on, in SQL: some days of them."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.gateway.backend.webhooks import Subject
from dingrelay_workers.database.database import chunks, insert_missing
from dingrelay_workers.outbox.models import EndpointRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks.models import NoticeRow

SLICE = 500
"""Rows that one statement deletes: other writers of SQLite wait meanwhile."""


async def record(connection: AsyncConnection, notices: Collection[Notice], now: datetime) -> None:
    """Pass notices on; one that is there already stays as it is."""
    for some in chunks(notices):
        rows = [{**notice.columns(), "recorded_at": now} for notice in some]
        await insert_missing(connection, NoticeRow, rows)


async def last_number(connection: AsyncConnection) -> int:
    """The number of the last one; 0 where there is none."""
    return await connection.scalar(select(func.max(NoticeRow.number))) or 0


async def after(
    connection: AsyncConnection, position: int, until: int | None, most: int
) -> Sequence[RowMapping]:
    """Some notices behind a position, without their data."""
    query = select(
        NoticeRow.number,
        NoticeRow.id,
        NoticeRow.type,
        NoticeRow.app,
        NoticeRow.sender,
        NoticeRow.kind,
    )
    query = query.where(NoticeRow.number > position).order_by(NoticeRow.number).limit(most)
    if until is not None:
        query = query.where(NoticeRow.number <= until)
    return (await connection.execute(query)).mappings().all()


async def find(connection: AsyncConnection, number: int) -> Notice | None:
    """One of them; None if it is not kept any more."""
    found = await connection.execute(select(NoticeRow.__table__).where(NoticeRow.number == number))
    row = found.mappings().one_or_none()
    return None if row is None else Notice.of(row)


async def first_since(connection: AsyncConnection, since: datetime) -> int | None:
    """The number of the first one that was passed on since then."""
    return await connection.scalar(
        select(func.min(NoticeRow.number)).where(NoticeRow.recorded_at >= since)
    )


async def count_between(connection: AsyncConnection, position: int, until: int | None) -> int:
    """How many there are behind a position, up to another."""
    query = select(func.count()).select_from(NoticeRow).where(NoticeRow.number > position)
    if until is not None:
        query = query.where(NoticeRow.number <= until)
    return await connection.scalar(query) or 0


async def forget_before(
    connection: AsyncConnection, moment: datetime
) -> tuple[int, dict[str, int]]:
    """Delete a slice of those that were passed on before.

    Returns:
        How many went, and endpoint → how many of them it had still to be told of, of any type.
    """
    old = list(
        await connection.scalars(
            select(NoticeRow.number)
            .where(NoticeRow.recorded_at < moment)
            .order_by(NoticeRow.number)
            .limit(SLICE)
        )
    )
    if not old:
        return 0, {}
    await connection.execute(delete(NoticeRow).where(NoticeRow.number.in_(old)))
    behind = await connection.execute(
        select(EndpointRow.id, EndpointRow.position).where(EndpointRow.position < old[-1])
    )
    missed: dict[str, int] = {
        row.id: sum(number > row.position for number in old) for row in behind
    }
    if missed:
        await connection.execute(
            update(EndpointRow).where(EndpointRow.id.in_(missed)).values(position=old[-1])
        )
    return len(old), missed


def subject(notice: Notice) -> Subject:
    """What an endpoint chooses by."""
    return Subject(notice.type, notice.app, notice.sender, notice.kind)


def subject_of(row: RowMapping) -> Subject:
    """The same, of a row."""
    return Subject(row["type"], row["app"], row["sender"], row["kind"])
