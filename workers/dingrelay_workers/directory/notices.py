"""Notices of the directory: people and departments that are new, changed or gone.

A notice names the person or department, and the fields that have another value; the values
themselves stay here, for readers with the permission.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from dingrelay_workers.database.database import rows_among
from dingrelay_workers.directory.models import Change, ChangeEvent, DepartmentRow, UserRow
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice

_Id = TypeVar("_Id", int, str)

_SHOWN: dict[Any, tuple[str, tuple[InstrumentedAttribute[Any], ...]]] = {
    UserRow: ("user", (UserRow.userid, UserRow.name)),
    DepartmentRow: ("department", (DepartmentRow.id, DepartmentRow.name, DepartmentRow.parent)),
}
"""Table → its noun in types of notices, and the columns that a notice shows."""


async def write(
    connection: AsyncConnection,
    app: str,
    key: InstrumentedAttribute[_Id],
    changes: Mapping[_Id, Change],
    at: datetime,
) -> None:
    """Write notices of people or departments whose rows are written already, by their `key`.

    Of `GONE` there is none: the notice is that of `LEFT`, once the person is marked as left.
    """
    noticed = {id_: change for id_, change in changes.items() if change.event != ChangeEvent.GONE}
    if not noticed or not await outbox.has_readers(connection):
        return
    table: Any = key.class_
    noun, columns = _SHOWN[table]
    notices: list[Notice] = []
    query = select(*columns).where(table.app == app).order_by(key)
    for row in await rows_among(connection, query, key, noticed):
        data = row._asdict()  # pyright: ignore[reportPrivateUsage] - SQLAlchemy names it so
        change = noticed[data[key.key]]
        if change.event == ChangeEvent.CHANGED:
            data["changed"] = sorted(change.fields)
        notices.append(Notice(type=f"directory.{noun}.{change.event}", app=app, at=at, data=data))
    await outbox.write(connection, notices)
