"""The business application of a run: it gets webhooks, and misbehaves."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from dingrelay_simulation.clock import CLOCK
from dingrelay_simulation.network import End

STATUSES = {"error": 500, "busy": 429, "redirect": 301}
"""Manner → what it answers."""
SLOW = 40.0
"""Seconds of a slow answer: longer than the workers wait for one."""


@dataclass(frozen=True)
class Delivery:
    """A request that the application got.

    Attributes:
        at: seconds from the beginning.
        endpoint: its name.
        taken: whether the answer said so.
    """

    at: float
    endpoint: str
    id: str
    timestamp: str
    signatures: str
    body: bytes
    taken: bool

    @property
    def document(self) -> dict[str, Any]:
        """Its reports."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Application:
    """The server of the application.

    Attributes:
        deliveries: all requests, in order.
        manner: how it misbehaves; empty if it does not.
    """

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.manner = ""
        self._server = web.Server(self._take, access_log=None)

    def accept(self, end: End | None) -> Any:
        """A new connection."""
        make: Any = self._server
        return make()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        manner, body = self.manner, await request.read()
        status = 0 if manner in {"slow", "cut"} else STATUSES.get(manner, 204)
        headers = request.headers
        delivery = Delivery(
            at=CLOCK.now,
            endpoint=request.path.removeprefix("/"),
            id=headers["webhook-id"],
            timestamp=headers["webhook-timestamp"],
            signatures=headers["webhook-signature"],
            body=body,
            taken=200 <= status < 300,
        )
        self.deliveries.append(delivery)
        if manner == "slow":
            await asyncio.sleep(SLOW)
        if manner == "cut" and request.transport is not None:
            request.transport.abort()
        later = {"Retry-After": "3"} if manner == "busy" else None
        return web.Response(status=status or 204, headers=later)
