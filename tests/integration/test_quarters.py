"""The fleet's last day by quarter of an hour."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy import select

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_workers.history.models import JobRow, QuarterRow
from dingrelay_workers.history.quarters import (
    KEPT,
    QUARTER,
    SHOWN,
    Quarter,
    QuarterService,
    QuarterWriter,
    beginning_of,
    clean_up,
)
from dingrelay_workers.maintenance.clean_up import CleanUp
from support import rows
from support.consoles import Browser
from support.jobs import queued

BUCKET = ("egress:default", "*", "calls")


@pytest.fixture
def settings(each_settings: Settings) -> Settings:
    return each_settings


async def called(redis: Redis, at: datetime, calls: int) -> None:
    """Count calls in the minute of a moment, as workers report them."""
    await redis.zadd(keys.BUCKETS, {keys.bucket(*BUCKET): 1})
    await redis.pexpire(keys.BUCKETS, keys.MINUTE_TTL_MS)
    minute = keys.minute(int(at.timestamp() // 60))
    await redis.hset(minute, keys.bucket(*BUCKET), calls)
    await redis.pexpire(minute, keys.MINUTE_TTL_MS)


async def ended(browser: Browser, at: datetime, *states: str) -> None:
    for number, state in enumerate(states):
        job = {"job": f"{at.timestamp()}-{number}", "kind": "message-send", "app": "default"}
        await rows.put(browser.database, JobRow, {**job, "state": state, "ended_at": at})


async def stored(browser: Browser) -> Sequence[tuple[Any, ...]]:
    columns = (QuarterRow.calls, QuarterRow.waiting, QuarterRow.done, QuarterRow.failed)
    return await browser.rows(select(*columns).order_by(QuarterRow.at))


async def test_a_quarter_is_written_as_it_grows_and_never_becomes_less(
    browser: Browser, redis: Redis
) -> None:
    now = beginning_of(datetime.now(UTC)) + timedelta(minutes=3)
    writer = QuarterWriter(redis, browser.database, lambda: now)
    await called(redis, now - timedelta(minutes=4), 30)
    await called(redis, now, 5)
    await ended(browser, now - timedelta(minutes=4), "done", "done", "dead")
    # The rest is no failure: it was cancelled, or was there already.
    await ended(browser, now, "unknown", "duplicate", "cancelled", "expired")
    await queued(redis)
    await writer.tick()
    # Redis keeps minutes for a while only, and what waited has begun.
    assert await stored(browser) == [(30, 0, 2, 1), (5, 1, 0, 1)]
    await redis.flushdb()
    await writer.tick()
    assert await stored(browser) == [(30, 0, 2, 1), (5, 1, 0, 1)]
    await called(redis, now - timedelta(minutes=1), 7)
    await ended(browser, now + timedelta(minutes=1), "done")
    await writer.tick()
    assert await stored(browser) == [(30, 0, 2, 1), (7, 1, 1, 1)]


async def test_the_last_day_is_shown_to_those_who_see_all_apps(browser: Browser) -> None:
    service = QuarterService(browser.database)
    assert await service.last_day() == []
    present = beginning_of(clock.now())
    figures = {"waiting": 2, "done": 0, "failed": 1}
    for at, calls in ((present, 1_200), (present - QUARTER * SHOWN, 9)):
        await rows.put(browser.database, QuarterRow, {"at": at, "calls": calls, **figures})
    day = await service.last_day()
    assert (len(day), day[-1]) == (SHOWN, Quarter(present, 1_200, 2, 0, 1))
    assert [quarter.calls for quarter in day[:-1]] == [0] * (SHOWN - 1)
    await browser.sign_in("ops", "operate")
    for page in ("/", "/limits"):
        chart = (await browser.text(page)).partition('class="charts"')[2].partition("</div>")[0]
        assert ("1,200" in chart, len(re.findall("<rect", chart)) >= 1) == (True, True), page


async def test_old_quarters_are_deleted(browser: Browser, settings: Settings) -> None:
    now = datetime.now(UTC)
    figures = {"calls": 1, "waiting": 2, "done": 0, "failed": 1}
    for at in (now - KEPT - QUARTER, now):
        await rows.put(browser.database, QuarterRow, {"at": beginning_of(at), **figures})
    parts: Any = SimpleNamespace(database=lambda: browser.database, settings=settings)
    await clean_up(CleanUp(parts, lambda: now))
    assert len(await stored(browser)) == 1
