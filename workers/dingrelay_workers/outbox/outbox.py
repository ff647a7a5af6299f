"""Notices and their deliveries, written in one transaction with the change that they report.

Either all are committed or none is, and which endpoints take a notice is read in that transaction, too.
So after any crash a subscriber hears of everything at least once, and an endpoint gets whatever is
committed after it was added. What no endpoint takes is not written: a walk over a hundred thousand
people would leave as many rows for nothing.
"""

from collections.abc import Sequence

from sqlalchemy import exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import chunks, insert_missing
from dingrelay_workers.outbox import notice_types
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice, Subject, Subscription

_CHOICE = [getattr(EndpointRow, name) for name in Subscription.model_fields]


async def has_readers(connection: AsyncConnection) -> bool:
    """Whether there is any endpoint."""
    return bool(await connection.scalar(select(exists(select(EndpointRow.id)))))


async def write(
    connection: AsyncConnection, notices: Sequence[Notice], *, amend: bool = False
) -> None:
    """Report what this transaction changes, once it is committed.

    Args:
        connection: of the transaction, which must be the one that makes the change.
        notices: in the order in which things happened. One that is there already stays as it is.
        amend: more is known now of those that are there: endpoints that take them now, and did not
            before, get them, too.

    Raises:
        ValueError: one is of a type that there is not.
    """
    for notice in notices:
        if not notice_types.is_type(notice.type):
            raise ValueError(en("no type of notices: {!r}", notice.type[:64]))
    if not notices:
        return
    rows = (await connection.execute(select(EndpointRow.id, *_CHOICE))).mappings()
    endpoints = [(row["id"], Subscription.model_validate({**row})) for row in rows]
    takers: dict[Subject, list[str]] = {}
    by_id: dict[str, Notice] = {}
    for notice in notices:
        subject = notice.subject
        if subject not in takers:
            takers[subject] = [id_ for id_, endpoint in endpoints if endpoint.takes(subject)]
        if takers[subject]:
            by_id.setdefault(notice.id, notice)
    for batch in chunks(by_id.values()):
        numbers = await record(connection, batch)
        if amend:
            numbers |= await _amend(
                connection, [notice for notice in batch if notice.id not in numbers]
            )
        deliveries = [
            {"endpoint": endpoint, "notice": numbers[notice.id], "state": "pending"}
            for notice in batch
            if notice.id in numbers
            for endpoint in takers[notice.subject]
        ]
        for delivery_batch in chunks(deliveries):
            await insert_missing(connection, DeliveryRow, delivery_batch)


async def _amend(connection: AsyncConnection, notices: Sequence[Notice]) -> dict[str, int]:
    """Write what is known now of notices; id → number."""
    numbers: dict[str, int] = {}
    for notice in notices:
        new = {"sender": notice.sender, "kind": notice.kind, "data": dict(notice.data)}
        changed = update(NoticeRow).where(NoticeRow.id == notice.id).values(new)
        numbers[notice.id] = (
            await connection.execute(changed.returning(NoticeRow.number))
        ).scalar_one()
    return numbers


async def record(connection: AsyncConnection, notices: Sequence[Notice]) -> dict[str, int]:
    """Keep notices; id → number of those that were not there yet."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(NoticeRow).on_conflict_do_nothing()
    now = clock.now()
    inserted = await connection.execute(
        statement.returning(NoticeRow.id, NoticeRow.number),
        [{**notice.columns(), "recorded_at": now} for notice in notices],
    )
    return {row.id: row.number for row in inserted}
