"""The process that listens to streams: from its start to a signal."""

import asyncio
import signal
import sys
from collections.abc import Sequence

import aiohttp
from redis.asyncio import Redis
from structlog.stdlib import get_logger

from dingrelay_producers import logs, metrics_server
from dingrelay_producers.cells import Cells
from dingrelay_producers.current_apps import CurrentApps
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.addresses import proxy_for
from dingrelay_producers.stream.listener import Listener, StreamMetrics, Taker
from dingrelay_producers.tracing import export

if sys.platform == "win32":
    from asyncio import run as run_loop
else:
    from uvloop import run as run_loop

CONNECT_SECONDS = 10.0

log = get_logger("dingrelay.events")


def run(settings: Settings, apps: Sequence[str]) -> None:
    """Listen until SIGTERM or SIGINT; events that were taken are answered."""
    logs.configure(settings)
    proxy_for(settings.api_url)
    export.start("dingrelay-events")
    try:
        run_loop(_run(settings, apps))
    finally:
        export.stop()


async def _run(settings: Settings, apps: Sequence[str]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    metrics = StreamMetrics()
    metrics_server.serve(settings.metrics_port, loop, metrics.registry)
    log.info("events_ready", apps=list(apps))
    await listen(settings, apps, metrics, stopping)


def _opened(settings: Settings) -> tuple[Enqueuer, Redis]:
    redis = open_redis(settings)
    return Enqueuer(settings, redis), redis


async def listen(
    settings: Settings, apps: Sequence[str], metrics: StreamMetrics, stopping: asyncio.Event
) -> None:
    """Keep all apps connected until it is time to stop."""
    cells = Cells(settings, _opened)
    takers = {app: Taker(cells.of(app)[0], metrics.events) for app in apps}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
    async with aiohttp.ClientSession(
        timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:
        current = CurrentApps(settings)
        listeners = [
            Listener(settings, current, app, session, takers[app], metrics) for app in apps
        ]
        running = [asyncio.create_task(listener.run()) for listener in listeners]
        if current.has_files:
            running.append(asyncio.create_task(current.watch()))
        waiting = asyncio.create_task(stopping.wait())
        # Any of them ends by a bug only; then the process ends, and its supervisor starts another.
        await asyncio.wait([waiting, *running], return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, *running):
            task.cancel()
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    for enqueuer, redis in cells.made:
        await enqueuer.aclose()
        await redis.aclose()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
