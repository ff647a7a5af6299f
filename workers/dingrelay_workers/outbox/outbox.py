"""The outbox: notices that are written in one transaction with the change that they tell of.

Either both are committed or neither is. So after any crash a subscriber hears of everything at
least once: the relay passes a notice on before it deletes it here.

Where no endpoint exists at all, nothing is written: a walk over a hundred thousand people would
otherwise leave as many rows for nobody. One that is added while a change is under way may or may
not hear of it; it hears of all that begins later.
"""

from collections.abc import Sequence

from sqlalchemy import delete, exists, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks import notice_types
from dingrelay_workers.database.database import chunks
from dingrelay_workers.outbox.models import EndpointRow, OutboxRow
from dingrelay_workers.outbox.notice import Notice


async def has_readers(connection: AsyncConnection) -> bool:
    """Whether anybody is to hear of anything."""
    return bool(await connection.scalar(select(exists(select(EndpointRow.id)))))


async def write(connection: AsyncConnection, notices: Sequence[Notice]) -> None:
    """Tell subscribers of what this transaction changes, once it is committed.

    Args:
        connection: of the transaction, which must be the one that makes the change.
        notices: in the order in which things happened.

    Raises:
        ValueError: one is of a type that there is not.
    """
    for notice in notices:
        if not notice_types.is_type(notice.type):
            raise ValueError(f"no type of notices: {notice.type[:64]!r}")
    if not notices or not await has_readers(connection):
        return
    for some in chunks(notices):
        await connection.execute(insert(OutboxRow), [notice.columns() for notice in some])


async def oldest(connection: AsyncConnection, most: int) -> list[tuple[int, Notice]]:
    """The notices that were written first, each with its number."""
    rows = await connection.execute(
        select(OutboxRow.__table__).order_by(OutboxRow.number).limit(most)
    )
    return [(row["number"], Notice.of(row)) for row in rows.mappings()]


async def forget(connection: AsyncConnection, numbers: Sequence[int]) -> None:
    """These have been passed on."""
    for some in chunks(numbers):
        await connection.execute(delete(OutboxRow).where(OutboxRow.number.in_(some)))
