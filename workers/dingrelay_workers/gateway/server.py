"""The gateway: all its routes in one application, and the process that serves it from its start to a signal."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial

from aiohttp import web

from dingrelay_producers import logs, metrics_server, running
from dingrelay_producers.settings import Settings
from dingrelay_producers.tracing import export
from dingrelay_tasks.packaged_kinds import KindError
from dingrelay_tasks.sentence import en
from dingrelay_workers import preflight
from dingrelay_workers.gateway import callbacks, health, jobs, openapi
from dingrelay_workers.gateway.context import opened
from dingrelay_workers.gateway.drop_in.door import drop_in_beside
from dingrelay_workers.gateway.health import missing_servers, watching
from dingrelay_workers.gateway.openapi import DOCUMENT
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http import job_routes
from dingrelay_workers.http.connection import SHUTDOWN_SECONDS, Server, listen, url_of
from dingrelay_workers.http.dispatch import handler_of
from dingrelay_workers.http.middleware import Quiet, log, request_middleware, sign
from dingrelay_workers.http.routes import CONTEXT, GatewayContext, Route
from dingrelay_workers.nouns import NOUNS

if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop


def _check_targets(routes: Sequence[Route]) -> None:
    """Refuse routes of one target: a package may bring a kind whose path is taken.

    Raises:
        KindError: names both routes.
    """
    operations: dict[str, str] = {}
    for route in routes:
        for target in (*(f"{method} {route.path}" for method in route.methods), route.operation):
            if target in operations:
                names = operations[target], route.operation
                raise KindError(en("two routes have {}: {} and {}", target, *names))
            operations[target] = route.operation


ROUTES: tuple[Route, ...] = (
    *job_routes.ROUTES,
    *jobs.ROUTES,
    *(route for noun in NOUNS for part in noun.routes for route in noun.load(part)),
    *callbacks.ROUTES,
    *openapi.ROUTES,
    *health.ROUTES,
)
"""Every route of the gateway. The router and the OpenAPI document are both built from this."""
_check_targets(ROUTES)


def create_app(context: GatewayContext, routes: Sequence[Route] = ROUTES) -> web.Application:
    """The application around a context, which the caller opens and closes."""
    # Bodies are read by `body_reader`, which has limits of its own.
    route_segments = {route.path.split("/")[1] for route in routes}
    app = web.Application(
        middlewares=[request_middleware, drop_in_beside(route_segments)], client_max_size=0
    )
    app[CONTEXT] = context
    app[DOCUMENT] = openapi.document_once(routes)
    app.on_response_prepare.append(sign)
    for route in routes:
        for method in route.methods:
            app.router.add_route(method, route.path, handler_of(route), expect_handler=_expected)
    for path in dict.fromkeys(route.path for route in routes if "{" not in route.path):
        allowed = [method for route in routes if route.path == path for method in route.methods]
        app.router.add_route("*", path, _other_method(allowed))
    return app


def _other_method(allowed: Sequence[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Refuses a method that a path has not, where a template that fits the path, too, has it."""

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, allowed)

    return refuse


async def _expected(request: web.Request) -> web.StreamResponse | None:
    """Answer ``Expect: 100-continue``; other expectations are ignored."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    return None


IDLE_SECONDS = 75.0
"""How long a connection may be without a request, or take for the head of one."""
LINGER_SECONDS = 2.0
"""How long a refused body is read on, so that its sender gets to read the refusal."""
DRAIN_SECONDS = 3.0
"""From a signal to stop on: for so long requests are still taken, and each connection ends with its next
answer. A connection that is closed unannounced is a reset to a client that asks at that moment."""
DRAIN_LOOK = 0.05
COLLECTED_AFTER = 5_000
"""New objects before Python's garbage collector looks at them. At its own 700 it would find little
but requests under way, again and again."""


def run(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; requests under way are finished.

    Raises:
        SettingsError: a rule or a code can't be read, or the address can't be listened on.
    """
    preflight.check(settings)
    logs.configure(settings)
    services = Services(settings)
    export.start("dingrelay-gateway")
    try:
        run_loop(_serve(settings, services, host, port))
    finally:
        export.stop()


async def _serve(settings: Settings, services: Services, host: str, port: int) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with listening(settings, services, host, port) as url:
        running.notify_ready()
        log.info("gateway_ready", url=url)
        sys.stdout.write(f"gateway listening on {url}\n")
        sys.stdout.flush()
        _leave_out_of_collections()
        await stopping.wait()


def _leave_out_of_collections() -> None:
    """Exempt what the gateway holds from start to end from garbage collection.

    Each full collection would scan all of it and stall every request.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED_AFTER)


@asynccontextmanager
async def listening(
    settings: Settings, services: Services, host: str, port: int
) -> AsyncGenerator[str]:
    """A gateway that serves while the block runs, and its URL.

    Raises:
        SettingsError: as `run`.
    """
    services.begin()
    try:
        async with opened(settings, services) as context:
            runner = web.AppRunner(
                create_app(context),
                access_log=None,
                handle_signals=False,
                keepalive_timeout=IDLE_SECONDS,
                lingering_time=LINGER_SECONDS,
                shutdown_timeout=SHUTDOWN_SECONDS,
                auto_decompress=False,
                logger=Quiet(logging.getLogger("dingrelay.gateway.http")),
            )
            await runner.setup()
            assert runner.server is not None
            runner.server.__class__ = Server
            end_metrics: Callable[[], None] | None = None
            try:
                await listen(runner, host, port)
                # The API comes first: metrics that have no port keep nothing from its work.
                end_metrics = metrics_server.serve(
                    settings.metrics_port,
                    asyncio.get_running_loop(),
                    context.metrics.registry,
                    partial(missing_servers, context),
                )
                await services.settle()
                # Tables that a start is still making are no outage.
                async with watching(context):
                    yield url_of(runner)
                    await _drain(runner, context)
            finally:
                await runner.cleanup()
                if end_metrics is not None:
                    await asyncio.to_thread(end_metrics)
    finally:
        await services.close()


async def _drain(runner: web.AppRunner, context: GatewayContext) -> None:
    """Announce to clients that their connections end, until there is none left."""
    context.stopping.set()
    with suppress(TimeoutError):
        async with asyncio.timeout(min(DRAIN_SECONDS, SHUTDOWN_SECONDS)):
            while runner.server is not None and runner.server.connections:  # noqa: ASYNC110
                await asyncio.sleep(DRAIN_LOOK)  # aiohttp has no event for it
