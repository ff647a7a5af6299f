"""A person in the notices of business applications."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import Database, change_rows, chunks
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.personal_data.subject import DataSubject, Erasing
from dingrelay_workers.webhooks.dispatcher import RETENTION
from dingrelay_workers.webhooks.endpoints import WRITER

_NAMES = {"userid": "name", "originator": "title"}
"""Field with the userid of a notice's subject → field with their name."""


async def export(connection: AsyncConnection, subject: DataSubject) -> list[dict[str, Any]]:
    """Every notice that names them."""
    table = NoticeRow
    columns = (table.id, table.type, table.app, table.sender, table.at, table.data)
    query = select(*columns).where(subject.named_in(table.data) | (table.sender == subject.user))
    rows = await connection.execute(subject.among(query, table.app).order_by(table.number))
    return [dict(row) for row in rows.mappings() if _names(row, subject)]


async def erase(database: Database, erasing: Erasing) -> None:
    """Take the person out of notices that every endpoint has got."""
    async with database.read() as connection:
        query = select(NoticeRow.number, NoticeRow.sender, NoticeRow.data).where(
            NoticeRow.at <= erasing.since,
            erasing.named_in(NoticeRow.data) | (NoticeRow.sender == erasing.user),
        )
        rows = await connection.execute(erasing.among(query, NoticeRow.app))
        numbers = [row["number"] for row in rows.mappings() if _names(row, erasing)]
    for some in chunks(numbers):
        # The lock of the sender of notices: none is sent in between.
        async with database.write(WRITER) as connection:
            query = select(NoticeRow.__table__).where(NoticeRow.number.in_(some))
            for row in (await connection.execute(query)).mappings().all():
                await _erase_one(connection, row, erasing)


async def _erase_one(connection: AsyncConnection, row: Any, erasing: Erasing) -> None:
    if await _is_awaited(connection, row["number"]):
        erasing.leave(
            "webhooks",
            row["id"],
            en("an endpoint is still to get it"),
            row["recorded_at"] + RETENTION,
        )
        return
    values: dict[str, Any] = {"data": _without(row["data"], erasing)}
    if row["sender"] == erasing.user:
        values["sender"] = erasing.tombstone
    await change_rows(connection, NoticeRow, NoticeRow.number == row["number"], **values)
    erasing.changed["webhooks"] += 1


def _names(row: Any, subject: DataSubject) -> bool:
    data = row["data"]
    about = subject.is_in(data) or subject.is_in_event(data.get("event"))
    return about or row["sender"] == subject.user


async def _is_awaited(connection: AsyncConnection, number: int) -> bool:
    """Whether some endpoint may still get a notice: what it gets must not change."""
    query = (
        select(DeliveryRow.endpoint)
        .join(EndpointRow, EndpointRow.id == DeliveryRow.endpoint)
        .where(DeliveryRow.notice == number, DeliveryRow.state.in_(("pending", "test")))
    )
    return await connection.scalar(query.limit(1)) is not None


def _without(data: Mapping[str, Any], erasing: Erasing) -> dict[str, Any]:
    left: dict[str, Any] = erasing.without(data)
    event = data.get("event", {})
    if erasing.is_in_event(event):
        left["event"] = erasing.without_event(event)
    for id_name, name in _NAMES.items():
        if data.get(id_name) == erasing.user and data.get(name):
            left[name] = erasing.tombstone
    return left
