"""A person in the notices of business applications."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.store.status import people_of
from dingrelay_tasks.person_fields import people_in
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.database import chunks
from dingrelay_workers.database.person_columns import contains
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.subjects import DataSubject, Erasing, PersonalData, Rows, Stores
from dingrelay_workers.webhooks.dispatcher import RETENTION
from dingrelay_workers.webhooks.endpoints import WRITER

_APPROVALS = ("instance", "event.processInstanceId")
"""Fields of a notice with the id of its approval."""
_FEW = 200
"""Approvals for which rows are looked up by their ids."""


async def export(stores: Stores, subject: DataSubject) -> Rows:
    """Every notice that names them, or that is about an approval of theirs."""
    async with stores.database.read() as connection:
        rows = await _rows(connection, subject)
    names = ("id", "type", "app", "sender", "at", "data")
    return [{name: row[name] for name in names} for row in rows]


async def erase(stores: Stores, erasing: Erasing) -> None:
    """Discard the notices that every endpoint has got: all that is in one is about what names the person."""
    async with stores.database.read() as connection:
        rows = await _rows(connection, erasing, NoticeRow.at <= erasing.since)
    for batch in chunks(rows):
        # The lock of the sender of notices: none is sent in between.
        async with stores.database.write(WRITER) as connection:
            awaited = await _awaited(connection, [row["number"] for row in batch])
            delivered = [row["number"] for row in batch if row["number"] not in awaited]
            await connection.execute(delete(NoticeRow).where(NoticeRow.number.in_(delivered)))
        erasing.changed["webhooks"] += len(delivered)
        for row in batch:
            if row["number"] in awaited:
                reason = en("an endpoint is still to get it")
                erasing.leave("webhooks", row["id"], reason, row["recorded_at"] + RETENTION)


async def _rows(
    connection: AsyncConnection, subject: DataSubject, *where: Any
) -> list[dict[str, Any]]:
    data = NoticeRow.data
    may_name = [contains(data, subject.user)]
    if len(subject.instances) <= _FEW:
        may_name += [contains(data, instance) for instance in subject.instances]
    else:
        may_name += [contains(data, "nstance")]
    query = select(NoticeRow.__table__).where(or_(*may_name), *where).order_by(NoticeRow.number)
    rows = (await connection.execute(subject.among(query, NoticeRow.app))).mappings()
    return [row for row in map(dict, rows) if _names(row, subject)]


def _names(row: Mapping[str, Any], subject: DataSubject) -> bool:
    """Whether a notice names the person: in its own fields, or in those of the job that it reports."""
    data = row["data"]
    people = NoticeRow.__people__.people_of(row)
    if row["type"].startswith("job."):
        people |= people_of({"kind": row["kind"], **data})
    return subject.user in people or not subject.instances.isdisjoint(people_in(data, _APPROVALS))


async def _awaited(connection: AsyncConnection, notices: list[int]) -> set[int]:
    """The notices that some endpoint may still get."""
    query = (
        select(DeliveryRow.notice)
        .join(EndpointRow, EndpointRow.id == DeliveryRow.endpoint)
        .where(DeliveryRow.notice.in_(notices), DeliveryRow.state.in_(("pending", "test")))
    )
    return set(await connection.scalars(query))


PERSONAL_DATA = PersonalData(
    place="webhooks", title=en("notices"), tables=(NoticeRow,), export=export, erase=erase
)
