"""The HTTP server and its process: DingTalk's two hosts on one port, and the admin API beside them."""

import asyncio
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

from aiohttp import web
from multidict import CIMultiDict

from dingrelay_sandbox import bodies
from dingrelay_sandbox.admin_api import admin_routes
from dingrelay_sandbox.answers import Answer
from dingrelay_sandbox.apis.api import dialect_of
from dingrelay_sandbox.bodies import FORM, read_body
from dingrelay_sandbox.call import Call
from dingrelay_sandbox.door import Door
from dingrelay_sandbox.events.delivery import Deliveries
from dingrelay_sandbox.events.stream_gateway import PATH as STREAM_PATH
from dingrelay_sandbox.state import SandboxState, Start
from dingrelay_sandbox.verdict import know_caller, respond

LARGEST_BODY_BYTES = 24 * 1024 * 1024
"""More than the largest file that may be uploaded."""
HANG_LOOK_SECONDS = 0.1
"""How often a hanging call looks whether its client has left."""
TOKEN_HEADER = "x-acs-dingtalk-access-token"
REQUEST_ID_HEADER = "x-acs-dingtalk-request-id"
"""On each answer of the new dialect (API §11.3)."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def create_app(state: SandboxState) -> web.Application:
    """The sandbox as an aiohttp application around its state."""
    app = web.Application(client_max_size=LARGEST_BODY_BYTES)
    state.deliveries = Deliveries(state)

    async def delivering(_: web.Application) -> AsyncIterator[None]:
        await state.deliveries.open()
        yield
        await state.deliveries.close()

    async def hang_up(_: web.Application) -> None:
        # Streams would go on for ever, and the server waits for its calls.
        await state.deliveries.stream.close()

    app.cleanup_ctx.append(delivering)
    app.on_shutdown.append(hang_up)
    app.router.add_get(STREAM_PATH, state.deliveries.stream.connect)
    app.add_routes(admin_routes(state))
    app.router.add_route("*", "/{path:.*}", _dingtalk(state))
    return app


def _dingtalk(state: SandboxState) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        connection = state.connections.use(request.transport)
        if state.door.shut:
            return _cut(request, reset=True)
        call = _call(request, await request.read())
        await _on_its_way(state.latency.draw() + _delay(state, call, effect=False))
        state.last_call += 1
        call.arrive(state.last_call, at=state.clock(), monotonic=time.monotonic())
        outcome = respond(state, call)
        connection.carry(state.audit.latest)
        match outcome.ending:
            case "reset":
                return _cut(request, reset=True)
            case "close":
                return _cut(request, reset=False)
            case "hang":
                await _hang(request)
                return _cut(request, reset=False)
            case "answer":
                await _on_its_way(state.latency.draw() + _delay(state, call, effect=True))
                connection.answer()
                return _response(outcome.answer, call, state.clock.date())

    return handle


def _call(request: web.Request, content: bytes) -> Call:
    """The call as it was sent; it has not arrived."""
    path, method = request.path, request.method
    query: Mapping[str, str] = request.query
    content_type = request.content_type
    whole_type = request.headers.get("Content-Type", "")
    payload, upload = read_body(content, content_type, whole_type)
    through = None
    if path == bodies.PATH and method == "POST":
        through = bodies.passage(query, payload)
        path, payload = through.path, through.payload
        query, content_type = {"access_token": through.token}, FORM
    return Call(
        method=method,
        path=path,
        dialect=dialect_of(path),
        query=query,
        header_token=request.headers.get(TOKEN_HEADER, ""),
        content_type=content_type,
        payload=payload,
        size=len(content),
        remote=request.remote or "",
        upload=upload,
        host=request.host,
        secure=request.secure,
        accept=request.headers.get("Accept", ""),
        passage=through,
    )


def _delay(state: SandboxState, call: Call, *, effect: bool) -> float:
    if not state.faults:
        return 0
    know_caller(state, call)
    return state.faults.delay(call, effect=effect)


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


def _response(answer: Answer, call: Call, date: str) -> web.Response:
    headers = CIMultiDict[str]()
    headers["Content-Type"] = f"{answer.content_type}; charset=utf-8"
    headers["Date"] = date
    if call.dialect == "rest":
        headers[REQUEST_ID_HEADER] = call.request_id
    if call.passage is not None:
        answer = call.passage.envelope(answer)
    headers.update(answer.headers)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

SHUTDOWN_SECONDS = 0.2
"""How long calls under way may take when the sandbox stops; hanging ones are then cut."""


def run(start: Start, host: str, port: int) -> None:
    """Serve a sandbox that starts so, until SIGTERM or SIGINT."""
    run_loop(serve(SandboxState(start), host, port))


async def serve(state: SandboxState, host: str, port: int) -> None:
    """Listen until SIGTERM or SIGINT. One line on stdout has the address."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    app = create_app(state)
    runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
    )
    door = state.door = Door(runner, host, port)
    await runner.setup()
    await door.open()
    name, number_of_port = door.address
    sys.stdout.write(f"sandbox listening on http://{name}:{number_of_port}\n")
    sys.stdout.flush()
    await stopping.wait()
    door.close()
    await runner.cleanup()
