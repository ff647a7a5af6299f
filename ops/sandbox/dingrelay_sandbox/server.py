"""The HTTP server: DingTalk's two hosts on one port, and the admin API beside them."""

import asyncio
import socket
import struct
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from dingrelay_sandbox.admin_routes import admin_routes
from dingrelay_sandbox.answers import Answer
from dingrelay_sandbox.apis.table import dialect_of
from dingrelay_sandbox.call import Call, read_payload
from dingrelay_sandbox.judge import judge
from dingrelay_sandbox.world import World

LARGEST_BODY_BYTES = 4 * 1024 * 1024
HANG_LOOK_SECONDS = 0.1
"""How often a hanging call looks whether its client has left."""
TOKEN_HEADER = "x-acs-dingtalk-access-token"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def create_app(world: World) -> web.Application:
    """The sandbox as an aiohttp application around a world."""
    app = web.Application(client_max_size=LARGEST_BODY_BYTES)
    app.add_routes(admin_routes(world))
    app.router.add_route("*", "/{path:.*}", _dingtalk(world))
    return app


def _dingtalk(world: World) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        payload = read_payload(body) if body else None
        query, path = request.query, request.path
        await _on_its_way(
            world.latency.draw() + world.faults.delay(path, {**query, **(payload or {})})
        )
        world.last_call += 1
        call = Call(
            id=world.last_call,
            method=request.method,
            path=path,
            dialect=dialect_of(path),
            query=query,
            header_token=request.headers.get(TOKEN_HEADER, ""),
            content_type=request.content_type,
            payload=payload,
            size=len(body),
            remote=request.remote or "",
            at=world.clock(),
            monotonic=time.monotonic(),
        )
        outcome = judge(world, call)
        match outcome.ending:
            case "reset":
                return _cut(request, reset=True)
            case "close":
                return _cut(request, reset=False)
            case "hang":
                await _hang(request)
                return _cut(request, reset=False)
            case "answer":
                await _on_its_way(world.latency.draw())
                return _response(outcome.answer)

    return handle


async def _on_its_way(seconds: float) -> None:
    if seconds:
        await asyncio.sleep(seconds)


async def _hang(request: web.Request) -> None:
    """Say nothing until the client leaves or the server stops."""
    # aiohttp has no event for a client that leaves.
    while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
        await asyncio.sleep(HANG_LOOK_SECONDS)


def _cut(request: web.Request, *, reset: bool) -> web.StreamResponse:
    """End the connection without an answer, with a TCP reset or an orderly close."""
    transport = request.transport
    if transport is not None:
        connection: socket.socket | None = transport.get_extra_info("socket")
        if reset and connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    # aiohttp wants a response; the connection that could carry it is gone.
    return web.Response(status=499)


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        headers={"Content-Type": f"{answer.content_type}; charset=utf-8"},
    )
