"""Endpoints in SQL, as every room here reads and changes them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.stdlib import get_logger

from dingrelay_workers.database.database import Database
from dingrelay_workers.metrics import WEBHOOK_ENDPOINTS_DISABLED
from dingrelay_workers.outbox.models import EndpointRow
from dingrelay_workers.webhooks.stored_endpoint import StoredEndpoint

WRITER = "webhooks"
"""Name of the lock under which notices are numbered and endpoints changed: one writer at a time, so
that numbers are committed in their order and a position is never ahead of a notice to come."""

log = get_logger("dingrelay.webhooks")


async def find(connection: AsyncConnection, endpoint: str) -> StoredEndpoint | None:
    """The endpoint with this id."""
    query = select(EndpointRow.__table__).where(EndpointRow.id == endpoint)
    row = (await connection.execute(query)).mappings().one_or_none()
    return None if row is None else StoredEndpoint.of(row)


async def all_of(connection: AsyncConnection) -> Sequence[StoredEndpoint]:
    """All endpoints, the newest first."""
    query = select(EndpointRow.__table__).order_by(EndpointRow.created_at.desc(), EndpointRow.id)
    return [StoredEndpoint.of(row) for row in (await connection.execute(query)).mappings()]


async def put(connection: AsyncConnection, row: dict[str, Any]) -> None:
    """A new endpoint."""
    await connection.execute(insert(EndpointRow), row)


async def change(connection: AsyncConnection, endpoint: str, **values: Any) -> None:
    """Other values in some columns."""
    await connection.execute(update(EndpointRow).where(EndpointRow.id == endpoint).values(values))


async def remove(connection: AsyncConnection, endpoint: str) -> bool:
    """Forget an endpoint and its deliveries; whether it was there."""
    found = await connection.execute(delete(EndpointRow).where(EndpointRow.id == endpoint))
    return bool(found.rowcount)


async def disable(database: Database, endpoint: StoredEndpoint, reason: str) -> None:
    """Tell an endpoint nothing any more, and people why; one that is not enabled stays as it is."""
    async with database.write(WRITER) as connection:
        found = await connection.execute(
            update(EndpointRow)
            .where(EndpointRow.id == endpoint.id, EndpointRow.state == "enabled")
            .values(state="disabled", reason=reason, changed_at=datetime.now(UTC))
        )
    if found.rowcount:
        WEBHOOK_ENDPOINTS_DISABLED.inc()
        log.error(
            "webhook_disabled", endpoint=endpoint.id, name=endpoint.endpoint.name, reason=reason
        )
