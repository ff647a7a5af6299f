"""Endpoints as rows, and what waits for them, for tests of their deliveries."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox.models import EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice
from rows import put


async def subscribe(database: Database, **fields: Any) -> None:
    """An endpoint that takes everything."""
    row = {"id": "drw_test", "name": "test", "url": "https://example.com/", "types": ["*"]}
    moments = {"enabled_at": datetime.now(UTC)}
    await put(database, EndpointRow, {**row, **moments, "state": "enabled", **fields})


async def taken(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of all notices, of which there is none then."""
    async with database.write("tests") as connection:
        rows = await connection.execute(select(NoticeRow.__table__).order_by(NoticeRow.number))
        found = [Notice.of(row) for row in rows.mappings()]
        await connection.execute(delete(NoticeRow))
    return [(notice.type, dict(notice.data)) for notice in found]
