"""Why a campaign waits is said in one sentence."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_tasks import beijing
from dingrelay_workers.campaigns import estimate
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.rules import Rules
from support.campaigns import end, put, taken
from support.databases import on_sqlite

pytestmark = on_sqlite


Prepare = Callable[[Redis], Awaitable[Any]]
NOW = datetime.now(UTC)


async def nothing(redis: Redis) -> None:
    pass


async def out(redis: Redis) -> None:
    """Work notifications are out."""
    breakers = Breakers(redis, Rules.from_settings({}, "default"))
    circuit = breakers.circuit("default", "message.send", "oapi")
    await breakers.sick(circuit, "cut", needed=1, reason="no answer")


async def used_up(redis: Redis) -> None:
    key = keys.quota("default", beijing.month(clock.now()))
    await redis.hset(key, "calls", "4500")
    await redis.expire(key, 60)


def quiet_now() -> str:
    now = NOW.astimezone(beijing.BEIJING)
    begin, end = now - timedelta(hours=1), now + timedelta(hours=1)
    return f"{begin:%H:%M}-{end:%H:%M}"


SLOW = {"rate": 60, "rate_credit": -600.0, "rate_at": NOW + timedelta(hours=1)}


async def test_it_is_said_why_a_campaign_waits(
    database: Database, redis: Redis, valkey_url: str
) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, quota={"edition": "standard"})
    campaigns = CampaignService(settings, database)
    reasons: tuple[tuple[dict[str, Any], Prepare, str], ...] = (
        ({"start_at": NOW + timedelta(days=1)}, nothing, "It starts at "),
        ({"quiet": quiet_now()}, nothing, "Quiet hours: it goes on at "),
        ({"state": State.PAUSED, "reason": "asked for"}, nothing, "asked for"),
        ({}, used_up, "4,500 of 5,000 calls of this month are used: campaigns stop at 90%."),
        (SLOW, nothing, "It goes at its own rate: 60 people a minute."),
        ({}, out, "DingTalk does not answer sanely: no answer"),
        ({}, nothing, ""),
        ({"state": State.DONE}, nothing, ""),
    )
    for fields, prepare, sentence in reasons:
        await redis.flushall()
        campaign = await put(database, **fields)
        await redis.set(keys.alive("dingrelay.bulk"), 1, ex=60)
        await prepare(redis)
        found = await campaigns.show(campaign)
        assert found.waits.startswith(sentence), fields
        assert bool(found.waits) == bool(sentence), fields


async def test_no_worker_is_a_reason(database: Database, settings: Settings) -> None:
    campaigns = CampaignService(settings, database)
    campaign = await put(database)
    assert (await campaigns.show(campaign)).waits == "No worker serves the lane bulk."


async def test_a_review_is_a_reason(database: Database, settings: Settings) -> None:
    settings = settings.model_copy(
        update={"campaigns": settings.campaigns.model_copy(update={"approve": "always"})}
    )
    campaigns = CampaignService(settings, database)
    campaign = await put(database, state=State.DRAFT)
    assert (await campaigns.show(campaign)).waits.startswith("needs the approval of a second")


async def test_the_end_is_foretold_from_the_pace_of_the_last_minute(database: Database) -> None:
    now = datetime.now(UTC)
    campaign = await put(database, people=40, started_at=now - timedelta(minutes=9))

    async def ends_at() -> datetime | None:
        row = await CampaignStore(database).get(campaign)
        async with database.read() as connection:
            return await estimate.ends_at(connection, row, now)

    assert await ends_at() is None
    await end(database, campaign, taken(called_at=now))
    # Two people a minute, and 38 are left.
    assert await ends_at() == now + timedelta(minutes=19)
