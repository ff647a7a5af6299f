"""A PostgreSQL that takes no writes, as a standby or on a full disk, is waited for."""

import pytest
from redis.asyncio import Redis
from sqlalchemy import make_url, update
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers import Settings, State
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.jobs import outcome
from dingrelay_workers.store.records import Records
from jobs import a_draft, claimed, enqueue
from tables import prepare


async def test_a_job_that_can_not_write_spends_no_attempt(
    postgres_url: str, valkey_url: str, redis: Redis
) -> None:
    prepare(postgres_url)
    url = make_url(postgres_url).update_query_dict(
        {"options": "-c default_transaction_read_only=on"}
    )
    database = Database(url.render_as_string(hide_password=False))
    with pytest.raises(SQLAlchemyError, match="read-only") as raised:
        async with database.write("tests") as connection:
            await connection.execute(update(CampaignRow).values(weight=2))
    await database.dispose()

    settings = Settings.load(env="test", redis_url=valkey_url)
    draft = a_draft()
    await enqueue(redis, draft)
    claim = await claimed(Records(redis, settings), draft)
    led_to = outcome.of(raised.value, claim, settings, open_call=False)
    assert (led_to.state, led_to.attempts) == (State.RETRYING, 0)
