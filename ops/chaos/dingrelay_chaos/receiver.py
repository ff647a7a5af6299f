"""The business application of a run: an HTTP server that is told by webhooks, and misbehaves."""

import asyncio
import random
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from dingrelay_chaos import ports

Manner = Literal[
    "slow", "error", "busy", "garbage", "cut", "endless", "redirect", "flap", "half", "gone"
]
"""How it takes what comes: too late, with 500, with 429 and a time to come back, with something that
is not HTTP, not at all, with a body without end, with another address, with 500 now and then, with
half an answer, or with 410."""

TIMEOUT_SECONDS = 2
"""Within which a request must be answered; the workers' setting."""
LATE_SECONDS = 3.0
CHUNK = b"x" * 65_536
START_SECONDS = 10


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """One request.

    Attributes:
        path: the endpoint's name.
        at: when it came, by the monotonic clock.
        status: what was answered; 0 for nothing that a client could read.
    """

    path: str
    at: float
    id: str
    timestamp: str
    signatures: str
    body: bytes
    status: int

    @property
    def taken(self) -> bool:
        """Whether the answer said so, if it arrived."""
        return 200 <= self.status < 300


class Receiver:
    """A server on a thread of its own; its endpoints are its paths."""

    def __init__(self) -> None:
        self.port = ports.reserve()
        self.requests: list[WebhookRequest] = []
        """Everything, in order; only appended to."""
        self.manners: dict[str, Manner] = {}
        """Endpoint → how it misbehaves; ``*`` for all."""
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def url(self, name: str) -> str:
        """The URL of an endpoint."""
        return f"http://127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self.come_back()

    def end(self) -> None:
        """Stop for good."""
        if self._thread.is_alive():
            self.go_away()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(START_SECONDS)
        self._loop.close()

    def go_away(self) -> None:
        """Refuse connections, and end those that there are."""
        self._do(self._close())

    def come_back(self) -> None:
        """Listen again."""
        self._do(self._listen())

    def mend(self) -> None:
        """End everything that is wrong with it."""
        self.manners.clear()
        self.come_back()

    def _do(self, act: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(act, self._loop).result(START_SECONDS)

    async def _listen(self) -> None:
        if self._runner is not None:
            return
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/{name}", self._take)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def _close(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        at, body = time.monotonic(), await request.read()
        manner = self.manners.get(name) or self.manners.get("*")
        status = _status(manner)
        headers = request.headers
        self.requests.append(
            WebhookRequest(
                name,
                at,
                headers.get("webhook-id", ""),
                headers.get("webhook-timestamp", ""),
                headers.get("webhook-signature", ""),
                body,
                status,
            )
        )
        return await _answer(request, manner, status)


def _status(manner: Manner | None) -> int:
    match manner:
        case "error":
            return 500
        case "busy":
            return 429
        case "redirect":
            return 301
        case "gone":
            return 410
        case "flap":
            return random.choice((204, 500))
        case "slow" | "garbage" | "cut":
            return 0
        case "half":
            return 0
        case _:
            return 204


async def _answer(request: web.Request, manner: Manner | None, status: int) -> web.StreamResponse:
    transport = request.transport
    match manner:
        case "slow":
            await asyncio.sleep(LATE_SECONDS)
            return web.Response(status=204)
        case "garbage" | "cut" | "half" if transport is not None:
            if manner != "cut":
                transport.write(b"HTTP/1.1 2" if manner == "half" else b"\0\xff not HTTP \r\n\r\n")
            transport.close()
            return web.Response(status=204)
        case "busy":
            return web.Response(status=status, headers={"Retry-After": "1"})
        case "redirect":
            return web.Response(status=status, headers={"Location": "/elsewhere"})
        case "endless":
            endless = web.StreamResponse()
            await endless.prepare(request)
            while True:
                await endless.write(CHUNK)
        case _:
            return web.Response(status=status)
