"""The console as a process: from its start to a signal."""

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aiohttp import web

from dingrelay_producers import running
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_producers.store import clock
from dingrelay_tasks.sentence import en
from dingrelay_workers import logs, preflight
from dingrelay_workers.console import dead, job_file, jobs, limits, many_jobs, now
from dingrelay_workers.console.app import create_app
from dingrelay_workers.console.context import ConsoleContext
from dingrelay_workers.console.sign_in import sign_in_ways
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.connection import listen, url_of
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.nouns import NOUNS
from dingrelay_workers.sessions.forms import Forms
from dingrelay_workers.sessions.sessions import Sessions
from dingrelay_workers.store.connections import end_tasks

PAGES = (
    dead,
    job_file,
    many_jobs,
    jobs,
    limits,
    now,
    *(noun.load(part) for noun in NOUNS for part in noun.pages),
)
"""Each declares its pages and forms."""
PORT = 8620
SHUTDOWN_SECONDS = 3.0
"""Time for pages that are being read."""
BUSY_TIMEOUT_MS = 1_500
"""How long who signs in waits for other writers on SQLite."""


def run(settings: Settings, host: str, port: int, prefix: str) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SettingsError: as of the gateway, or people would reach it under another prefix.
    """
    if settings.console_url and urlsplit(settings.console_url).path.rstrip("/") != prefix:
        raise SettingsError(
            en(
                "DINGRELAY_CONSOLE_URL: its path must be that of --prefix, which is {}",
                prefix or "/",
            )
        )
    preflight.check(settings)
    logs.configure(settings)
    asyncio.run(_serve(settings, host, port, prefix))


async def _serve(settings: Settings, host: str, port: int, prefix: str) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with listening(settings, host, port, prefix) as url:
        running.notify_ready()
        sys.stdout.write(f"console listening on {url}\n")
        sys.stdout.flush()
        await stopping.wait()


@asynccontextmanager
async def listening(
    settings: Settings, host: str, port: int, prefix: str = ""
) -> AsyncGenerator[str]:
    """A console that serves while the block runs, and its URL.

    Raises:
        SettingsError: as `run`.
    """
    services = Services(settings)
    database = Database(settings.database, busy_timeout_ms=BUSY_TIMEOUT_MS)
    redis = open_redis(settings)
    records = GatewayRecords(settings, redis)
    services.begin()
    following = asyncio.create_task(clock.CLOCK.follow(redis))
    try:
        sessions, forms = Sessions(database), Forms(database)
        async with sign_in_ways(settings, services.of(DirectoryService)) as ways:
            context = ConsoleContext(
                settings, services, sessions, forms, redis, records, prefix, ways
            )
            runner = web.AppRunner(
                create_app(context), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS
            )
            await runner.setup()
            try:
                await listen(runner, host, port)
                await services.settle()
                yield url_of(runner) + prefix
            finally:
                await runner.cleanup()
    finally:
        await end_tasks([following])
        await records.aclose()
        await redis.aclose()
        await database.dispose()
        await services.close()
