"""A worker that sends notices to endpoints, in quick time, and ways to write notices."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow
from dingrelay_workers.outbox.notice import Notice, Subscription
from dingrelay_workers.webhooks import deliveries, dispatcher, endpoints
from dingrelay_workers.webhooks.documents import IssuedEndpoint
from dingrelay_workers.webhooks.service import WebhookService
from outages import Fleet, eventually
from receivers import Receiver


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is as long as a minute."""
    monkeypatch.setattr(endpoints, "FIRST_PAUSE", timedelta(seconds=0.1))
    monkeypatch.setattr(endpoints, "LONGEST_PAUSE", timedelta(seconds=0.5))
    monkeypatch.setattr(deliveries, "BASE", 0.1)
    monkeypatch.setattr(deliveries, "CAP", 2.0)
    for name, seconds in (("IDLE", 0.05), ("BEAT", 0.1), ("BUSY", 0.02)):
        monkeypatch.setattr(dispatcher, name, seconds)


class Office:
    """A worker, its endpoints, and what happens."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.resources = fleet.resources
        self.store = WebhookService(
            self.database, self.resources.redis, self.resources.settings, timeout=30
        )

    @property
    def database(self) -> Database:
        return self.resources.database

    async def add(self, url: str, *types: str, **fields: Any) -> IssuedEndpoint:
        return await self.store.add(
            Subscription(name="test", url=url, types=types or ("*",), **fields)
        )

    async def people_left(self, userids: Iterable[str], *, app: str = "default") -> list[str]:
        """Write the notices that these people left; their ids."""
        at = datetime.now(UTC)
        notices = [
            Notice(type="directory.user.left", app=app, at=at, data={"userid": userid})
            for userid in userids
        ]
        async with self.database.write("tests") as connection:
            await outbox.write(connection, notices)
        return [notice.id for notice in notices]

    async def close(self) -> None:
        """End what runs, as a worker does before it closes its connections."""
        await self.fleet.wakeups.end()

    async def disabled(self, endpoint: str) -> None:
        """Return once the endpoint is disabled."""

        async def is_disabled() -> bool:
            return (await self.store.get(endpoint)).state == "disabled"

        await eventually(is_disabled)

    async def under_way(self) -> int:
        """Deliveries that have not ended."""
        async with self.database.read() as connection:
            query = select(func.count(DeliveryRow.notice)).join_from(
                DeliveryRow, EndpointRow, EndpointRow.id == DeliveryRow.endpoint
            )
            found = await connection.scalar(query.where(DeliveryRow.state == "pending"))
        return found or 0

    async def arrived(self, receiver: Receiver, ids: Iterable[str], *, within: float = 60) -> None:
        """Return once a receiver has taken all of these, and nothing is under way."""
        wanted = set(ids)

        async def all_of_them() -> bool:
            return wanted <= set(receiver.ids) and not await self.under_way()

        await eventually(all_of_them, within=within)
