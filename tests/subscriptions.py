"""Endpoints as rows, and what waits for them, for tests of their deliveries."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select

from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox.models import EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice


async def subscribe(database: Database, **fields: Any) -> None:
    """An endpoint that takes everything."""
    now = datetime.now(UTC)
    row = {
        "id": "drw_test",
        "name": "test",
        "url": "https://example.com/",
        "types": ["*"],
        "apps": [],
        "senders": [],
        "kinds": [],
        "state": "enabled",
        "reason": "",
        "secrets": [],
        "created_at": now,
        "changed_at": now,
        "enabled_at": now,
        **fields,
    }
    async with database.write("tests") as connection:
        await connection.execute(insert(EndpointRow), row)


async def taken(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of all notices, of which there is none then."""
    async with database.write("tests") as connection:
        rows = await connection.execute(select(NoticeRow.__table__).order_by(NoticeRow.number))
        found = [Notice.of(row) for row in rows.mappings()]
        await connection.execute(delete(NoticeRow))
    return [(notice.type, dict(notice.data)) for notice in found]
