"""A writer that has waited for its turn reads what was committed while it waited, whatever PostgreSQL's default is."""

import asyncio

import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url, text, update

import campaigns
from conftest import wait_until_async
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.service import move
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import sync_engine
from tables import prepare


@pytest.mark.parametrize("isolation", ["repeatable\\ read", "serializable"])
async def test_a_writer_that_waited_reads_what_was_committed(
    postgres_url: str, redis: Redis, isolation: str
) -> None:
    prepare(postgres_url)
    options = {"options": f"-c default_transaction_isolation={isolation}"}
    url = make_url(postgres_url).update_query_dict(options).render_as_string(hide_password=False)
    database = Database(url)

    async def waits() -> bool:
        async with database.read() as connection:
            waiting = text("select count(*) from pg_locks where not granted")
            return bool(await connection.scalar(waiting))

    campaign = await campaigns.put(database)
    async with database.write(f"campaign {campaign}") as connection:
        pausing = asyncio.create_task(move(database, redis, campaign, "pause"))
        await wait_until_async(waits, what="the other writer waits")
        await connection.execute(update(CampaignRow).values(weight=7))
    await pausing
    row = await campaigns.read(database, campaign)
    assert (row.state, row.weight) == ("paused", 7)
    await database.dispose()


def test_whoever_migrates_does_so_too(postgres_url: str) -> None:
    options = {"options": "-c default_transaction_isolation=serializable"}
    url = make_url(postgres_url).update_query_dict(options)
    engine = sync_engine(url.render_as_string(hide_password=False))
    with engine.connect() as connection:
        isolation = connection.scalar(text("show transaction_isolation"))
    engine.dispose()
    assert isolation == "read committed"
