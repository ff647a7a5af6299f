"""A server of HTTP that answers what a test says, in as many pieces as it says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from serving import all_to, serving


@dataclass
class Answering:
    """A server that gives one answer to everything, and records the requests.

    Attributes:
        asked: method and target of each request, as they were on the wire.
    """

    url: str = ""
    status: int = 200
    pieces: Sequence[bytes] = (b'{"errcode": 0}',)
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        self.tokens.append(request.headers.get("x-acs-dingtalk-access-token", ""))
        self.bodies.append(await request.read())
        if request.path == "/gettoken":
            return web.json_response({"errcode": 0, "access_token": "ours", "expires_in": 7200})
        response = web.StreamResponse(status=self.status, headers=self.headers)
        await response.prepare(request)
        for piece in self.pieces:
            await response.write(piece)
            # The client has what was written before the next piece comes.
            await asyncio.sleep(0)
        return response


@asynccontextmanager
async def answering() -> AsyncIterator[Answering]:
    """The server, on a port of its own."""
    server = Answering()
    async with serving(all_to(server.answer)) as server.url:
        yield server
