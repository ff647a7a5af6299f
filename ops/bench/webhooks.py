"""How long messages and other notices wait beside receivers of webhooks that hang, and without them."""

import asyncio
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from aiohttp import web
from figures import Figure, percentile
from messages import text
from testbed import Testbed, wait_until

from dingrelay_producers import Client
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings
from dingrelay_tasks import UserSync
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.outbox.subscription import Subscription
from dingrelay_workers.webhooks.store import SqlWebhookStore

ENDPOINTS = 10
STUCK = 1_000
PEOPLE = STUCK // ENDPOINTS
"""At least: each of them is new in the directory, and each endpoint is told so."""
PACE = 0.1
"""Seconds between two messages."""
LIFTED = {"calls": "", "recipients": ""}
RATE, MANY, SLOW = 50, 100, 20
"""Notices a second; endpoints, and how many of them are slow or hang."""
SENDERS = 20
"""By which notices are shared out: each goes to five endpoints, one of them slow or hanging."""


def measure(testbed: Testbed, messages: int) -> list[Figure]:
    """Milliseconds from before the enqueueing to the moment in which DingTalk takes the call.

    Args:
        testbed: where to measure.
        messages: how many, with and without deliveries that hang.
    """
    group = f"messages beside {STUCK:,} webhooks that hang"
    testbed.clear(people=max(PEOPLE, 2 * messages), **LIFTED)
    testbed.sandbox.seed(users=max(PEOPLE, 2 * messages), departments=2)
    with (
        testbed.workers(2, env=testbed.rules(**LIFTED)),
        testbed.client() as client,
        _silent() as url,
    ):
        alone = _waits(testbed, client, messages, first=1)
        for number in range(ENDPOINTS):
            _add(testbed, f"{url}/{number}")
        client.send(UserSync()).wait(timeout=120)
        wait_until(lambda: _stuck(testbed) >= STUCK, 60)
        beside = _waits(testbed, client, messages, first=messages + 1)
        note = f"{messages} messages; {_stuck(testbed):,} deliveries are stuck at the end"
    return [
        Figure(group, "p50", percentile(beside, 50), "ms", at_most=110),
        Figure(group, "p99", percentile(beside, 99), "ms", at_most=250, note=note),
        Figure(group, "without webhooks, p50", percentile(alone, 50), "ms"),
        Figure(group, "without webhooks, p99", percentile(alone, 99), "ms"),
    ]


@contextmanager
def _silent() -> Iterator[str]:
    """A server that takes every connection and says nothing, until the block ends."""
    kept: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def take() -> None:
            with suppress(OSError):
                while True:
                    kept.append(server.accept()[0])

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for connection in kept:
                connection.close()


def isolation(testbed: Testbed, seconds: int) -> list[Figure]:
    """Milliseconds from the commit of a notice to its arrival, beside endpoints that are slow or hang.

    Args:
        testbed: where to measure.
        seconds: how long notices are committed, with and without such endpoints.
    """
    group = f"notices at {RATE}/s, {SLOW} of {MANY} endpoints slow or hanging"
    testbed.clear()
    with _receiver() as (url, arrivals), testbed.workers(1):
        alone = asyncio.run(_notices(testbed, f"{url}/good", MANY - SLOW, seconds, arrivals))
        asyncio.run(_endpoints(testbed, f"{url}/slow", SLOW))
        beside = asyncio.run(_notices(testbed, f"{url}/good", 0, seconds, arrivals))
    note = f"{len(beside):,} deliveries to the others"
    return [
        Figure(group, "p50", percentile(beside, 50), "ms", at_most=500),
        Figure(group, "p99", percentile(beside, 99), "ms", at_most=1_000, note=note),
        Figure(group, "without those, p50", percentile(alone, 50), "ms"),
        Figure(group, "without those, p99", percentile(alone, 99), "ms"),
    ]


async def _endpoints(testbed: Testbed, url: str, count: int) -> None:
    """Add endpoints; each gets a part of the notices, by their senders."""
    settings = _settings(testbed)
    database, redis = Database(settings.database), open_redis(settings)
    store = SqlWebhookStore(database, redis, settings, patience=30)
    for number in range(count):
        senders = frozenset({f"s{number % SENDERS}"})
        path = f"{url}/{number}"
        await store.add(Subscription(name=path, url=path, types=("*",), senders=senders))
    await redis.aclose()
    await database.dispose()


async def _notices(
    testbed: Testbed, url: str, add: int, seconds: int, arrivals: dict[str, list[float]]
) -> list[float]:
    """Commit notices at the rate, and wait until the good endpoints have them."""
    await asyncio.to_thread(migrate, _settings(testbed))
    await _endpoints(testbed, url, add)
    database = Database(_settings(testbed).database)
    committed: dict[str, float] = {}
    began = time.monotonic()
    for number in range(RATE * seconds):
        await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
        notice = Notice(
            type="campaign.paused",
            app="default",
            at=datetime.now(UTC),
            data={},
            sender=f"s{number % SENDERS}",
        )
        async with database.write("bench") as connection:
            await outbox.write(connection, [notice])
        committed[notice.id] = time.monotonic()
    await database.dispose()
    each = (MANY - SLOW) // SENDERS
    await asyncio.to_thread(
        wait_until, lambda: all(len(arrivals.get(id_, ())) >= each for id_ in committed), 120
    )
    return [(at - moment) * 1000 for id_, moment in committed.items() for at in arrivals[id_]]


@contextmanager
def _receiver() -> Iterator[tuple[str, dict[str, list[float]]]]:
    """A server that accepts ``/good`` at once, and of ``/slow`` half after 10 s and half never."""
    arrivals: dict[str, list[float]] = {}
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    port: Future[int] = Future()

    async def handle(request: web.Request) -> web.Response:
        if "/slow/" in request.path:
            hangs = int(request.path.rpartition("/")[2]) % 2
            await asyncio.sleep(3_600 if hangs else 10)
        else:
            moments = arrivals.setdefault(request.headers["webhook-id"], [])
            moments.append(time.monotonic())
        return web.Response(status=204)

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", handle)
        runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True
        )
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        port.set_result(runner.addresses[0][1])
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        yield f"http://127.0.0.1:{port.result(10)}", arrivals
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def _settings(testbed: Testbed) -> Settings:
    return Settings.load(
        env="sandbox",
        redis_url=testbed.redis_url,
        database_url=testbed.env["DINGRELAY_DATABASE_URL"],
    )


def _add(testbed: Testbed, url: str) -> None:
    command = [sys.executable, "-m", "dingrelay_producers.cli", "webhook", "add", url]
    subprocess.run(
        [*command, "--type", "directory.user.*", "--json"],
        env=testbed.environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _stuck(testbed: Testbed) -> int:
    """Deliveries that hang, or wait until their endpoint takes something."""
    with sqlite3.connect(testbed.database) as connection:
        query = "select count(*) from webhook_deliveries where state = 'pending'"
        return int(connection.execute(query).fetchone()[0])


def _waits(testbed: Testbed, client: Client, messages: int, *, first: int) -> list[float]:
    sent: dict[str, float] = {}
    for number in range(messages):
        user = f"u{first + number}"
        sent[user] = time.monotonic()
        client.send(text(f"message {user}", [user]))
        time.sleep(max(0.0, PACE - (time.monotonic() - sent[user])))
    wait_until(lambda: all(_arrived(testbed, user) for user in sent), 60, pause=1)
    arrivals = {call["id"]: call["monotonic"] for call in testbed.calls()}
    return [(arrivals[_arrived(testbed, user)] - at) * 1000 for user, at in sent.items()]


def _arrived(testbed: Testbed, user: str) -> int:
    """The call that brought a user the message; 0 while there is none."""
    delivered = testbed.sandbox.inbox(user)["delivered"]
    return delivered[0]["call_id"] if delivered else 0
