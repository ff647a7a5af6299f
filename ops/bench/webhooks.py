"""How long messages and other notices wait beside receivers of webhooks that hang, and without them."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from aiohttp import web
from figures import Figure, percentile
from messages import send_at_pace
from testbed import Testbed, wait_until

from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_sandbox.receiver import receiving
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import opened
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.notice import Notice
from dingrelay_workers.webhooks.documents import EndpointRequest
from dingrelay_workers.webhooks.service import WebhookService

ENDPOINTS = 10
STUCK = 1_000
PACE = 0.1
"""Seconds between two messages."""
LIFTED = {"calls": "", "recipients": ""}
RATE, MANY, SLOW = 50, 100, 20
"""Notices a second; endpoints, and how many of them are slow or hang."""
SENDERS = 20
"""Senders among which notices are distributed: each goes to five endpoints, one of them slow or hanging."""


def measure(testbed: Testbed, messages: int = 300, *, seconds: int = 30) -> list[Figure]:
    """The waits of messages, and of notices, beside such endpoints and alone.

    Args:
        testbed: where to measure.
        messages: how many, with and without deliveries that hang.
        seconds: how long notices are committed, with and without such endpoints.
    """
    return _messages(testbed, messages) + _isolation(testbed, seconds)


def _messages(testbed: Testbed, messages: int) -> list[Figure]:
    """Milliseconds from before the enqueueing to the moment in which DingTalk takes the call."""
    group = f"messages beside {STUCK:,} webhooks that hang"
    rules = testbed.clear(people=2 * messages, **LIFTED)
    users = [f"u{number + 1}" for number in range(2 * messages)]
    with testbed.workers(2, env=rules), _receiver() as (url, _):
        alone = send_at_pace(testbed, users[:messages], PACE, 60)
        asyncio.run(_hang(testbed, f"{url}/hang"))
        wait_until(lambda: _stuck(testbed) >= STUCK, 60)
        beside = send_at_pace(testbed, users[messages:], PACE, 60)
        note = f"{messages} messages; {_stuck(testbed):,} deliveries are stuck at the end"
    return [
        Figure(group, "p50", percentile(beside, 50), "ms", at_most=110),
        Figure(group, "p99", percentile(beside, 99), "ms", at_most=250, note=note),
        Figure(group, "without webhooks, p50", percentile(alone, 50), "ms"),
        Figure(group, "without webhooks, p99", percentile(alone, 99), "ms"),
    ]


def _isolation(testbed: Testbed, seconds: int) -> list[Figure]:
    """Milliseconds from the commit of a notice to its arrival, beside endpoints that are slow or hang."""
    group = f"notices at {RATE}/s, {SLOW} of {MANY} endpoints slow or hanging"
    testbed.clear()
    with _receiver() as (url, arrivals), testbed.workers(1):
        alone = asyncio.run(_notices(testbed, f"{url}/good", MANY - SLOW, seconds, arrivals))
        asyncio.run(_add(testbed, f"{url}/slow", range(SLOW // 2)))
        asyncio.run(_add(testbed, f"{url}/hang", range(SLOW // 2, SLOW)))
        beside = asyncio.run(_notices(testbed, f"{url}/good", 0, seconds, arrivals))
    note = f"{len(beside):,} deliveries to the others"
    return [
        Figure(group, "p50", percentile(beside, 50), "ms", at_most=500),
        Figure(group, "p99", percentile(beside, 99), "ms", at_most=1_000, note=note),
        Figure(group, "without those, p50", percentile(alone, 50), "ms"),
        Figure(group, "without those, p99", percentile(alone, 99), "ms"),
    ]


async def _add(testbed: Testbed, url: str, numbers: range, *, of_all: bool = False) -> None:
    """Add endpoints, each of one sender's notices or of all."""
    settings = testbed.settings()
    redis = open_redis(settings)
    async with opened(settings) as database:
        store = WebhookService(database, redis, settings, timeout=30)
        for number in numbers:
            address, types = f"{url}/{number}", ["campaign.paused"]
            of = [] if of_all else [f"s{number % SENDERS}"]
            await store.add(EndpointRequest(name=address, url=address, types=types, senders=of))
    await redis.aclose()


async def _hang(testbed: Testbed, url: str) -> None:
    """Commit so many notices that the endpoints below this URL have `STUCK` deliveries."""
    await _add(testbed, url, range(ENDPOINTS), of_all=True)
    async with opened(testbed.settings()) as database:
        for number in range(STUCK // ENDPOINTS):
            await _commit(database, number)


async def _notices(
    testbed: Testbed, url: str, add: int, seconds: int, arrivals: dict[str, list[float]]
) -> list[float]:
    """Commit notices at the rate, and wait until the good endpoints have them."""
    await _add(testbed, url, range(add))
    committed: dict[str, float] = {}
    async with opened(testbed.settings()) as database:
        began = time.monotonic()
        for number in range(RATE * seconds):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            committed[await _commit(database, number)] = time.monotonic()
    each = (MANY - SLOW) // SENDERS
    await asyncio.to_thread(
        wait_until, lambda: all(len(arrivals.get(id_, ())) >= each for id_ in committed), 120
    )
    return [(at - moment) * 1000 for id_, moment in committed.items() for at in arrivals[id_]]


async def _commit(database: Database, number: int) -> str:
    """The id of a notice, committed."""
    sender, now = f"s{number % SENDERS}", datetime.now(UTC)
    notice = Notice(type="campaign.paused", app="default", at=now, data={}, sender=sender)
    async with database.write("bench") as connection:
        await outbox.write(connection, [notice])
    return notice.id


@contextmanager
def _receiver() -> Iterator[tuple[str, dict[str, list[float]]]]:
    """A server that accepts ``/good`` at once, ``/slow`` after 10 s, and ``/hang`` never."""
    arrivals: dict[str, list[float]] = {}

    async def handle(request: web.Request) -> web.Response:
        delay = {"slow": 10, "hang": 3_600}.get(request.path.split("/")[1])
        if delay:
            await asyncio.sleep(delay)
        else:
            arrivals.setdefault(request.headers["webhook-id"], []).append(time.monotonic())
        return web.Response(status=204)

    with receiving(handle) as url:
        yield url, arrivals


def _stuck(testbed: Testbed) -> int:
    """Deliveries that hang, or wait until their endpoint takes something."""
    with sqlite3.connect(testbed.database) as connection:
        query = "select count(*) from webhook_deliveries where state = 'pending'"
        return int(connection.execute(query).fetchone()[0])
