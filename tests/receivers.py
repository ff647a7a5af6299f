"""Receivers of webhooks: real servers that answer as a test says, and keep their requests."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook

from serving import all_to, in_thread, serving

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
