"""Webhooks: endpoints as rows, a worker that sends to them in quick time, and receivers, which are real servers."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from sqlalchemy import delete, func, select
from standardwebhooks import Webhook

from dingrelay_workers.database.database import Database
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.models import DeliveryRow, EndpointRow, NoticeRow
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks import deliveries, dispatcher, endpoints
from dingrelay_workers.webhooks.documents import EndpointRequest, IssuedEndpoint
from dingrelay_workers.webhooks.service import WebhookService
from support.outages import Fleet, eventually
from support.rows import put
from support.serving import all_to, in_thread, serving

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class ReceivedRequest:
    """One request that a receiver got, and what it answered."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A server that takes webhooks.

    Attributes:
        requests: all, in their order.
        most: how many were under way at once at most.
        behaves: what it answers; 204 at first.
    """

    url: str
    requests: list[ReceivedRequest] = field(default_factory=list)
    most: int = 0
    under_way: int = 0
    behaves: Behaviour | None = None

    @property
    def taken(self) -> list[ReceivedRequest]:
        """The requests that it took."""
        return [request for request in self.requests if 200 <= request.status < 300]

    @property
    def ids(self) -> Counter[str]:
        """How often it took each notice."""
        return Counter(request.id for request in self.taken)

    @property
    def types(self) -> list[str]:
        return [request.document["type"] for request in self.taken]

    def data(self, kind: str = "") -> list[dict[str, Any]]:
        """The data of what it took, each notice once."""
        found = {document.id: document.document for document in self.taken}
        return [
            document["data"] for document in found.values() if document["type"].startswith(kind)
        ]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        kept = ReceivedRequest(request.path, dict(request.headers), await request.read())
        self.requests.append(kept)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            answer = await self.behaves(request) if self.behaves else web.Response(status=204)
            kept.status = answer.status
            return answer
        finally:
            self.under_way -= 1


def answering(status: int, **options: Any) -> Behaviour:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, **options)

    return answer


async def hanging(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3_600)
    raise AssertionError


@asynccontextmanager
async def a_receiver(port: int = 0) -> AsyncGenerator[Receiver]:
    """A receiver on a port of this machine."""
    receiver = Receiver("")
    async with serving(all_to(receiver.handle), port) as url:
        receiver.url = f"{url}/hook"
        yield receiver


@contextmanager
def receiver_thread() -> Generator[Receiver]:
    """The same beside a test that waits."""
    with in_thread(a_receiver()) as (receiver, _):
        yield receiver


def verified(request: ReceivedRequest, secret: str) -> dict[str, Any]:
    """The document, as a receiver with the public library gets it.

    Raises:
        WebhookVerificationError: it is not signed with the secret.
    """
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Webhook(secret).verify(request.body, headers)


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
            EndpointRequest(name="test", url=url, types=[*(types or ("*",))], **fields)
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
