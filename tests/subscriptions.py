"""Endpoints as rows, and what waits for them, for tests of who tells them what."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert

from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import EndpointRow, OutboxRow


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
        "position": 0,
        "created_at": now,
        "changed_at": now,
        **fields,
    }
    async with database.write("tests") as connection:
        await connection.execute(insert(EndpointRow), row)


async def taken(database: Database) -> list[tuple[str, dict[str, Any]]]:
    """Type and data of all that is in the outbox, which is empty then."""
    async with database.write("tests") as connection:
        found = [notice for _, notice in await outbox.oldest(connection, 1000)]
        await connection.execute(delete(OutboxRow))
    return [(notice.type, dict(notice.data)) for notice in found]
