"""A question about many people looks at their chunks once, on each database."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, update

from dingrelay_workers.campaigns import people_index
from dingrelay_workers.campaigns.audience import Audience
from dingrelay_workers.campaigns.models import ChunkRow, ChunkState
from dingrelay_workers.campaigns.spec import CampaignSpec
from dingrelay_workers.campaigns.store import CampaignStore
from tables import prepare

NOW = datetime.now(UTC)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[CampaignStore]:
    prepare(database_url)
    store = CampaignStore(database_url)
    yield store
    await store.close()


async def test_a_question_about_many_people_is_one_look_at_the_chunks(store: CampaignStore) -> None:
    users = [f"u{number}" for number in range(60_000)]
    message = {"msgtype": "text", "text": {"content": "hello"}}
    spec = CampaignSpec.parse({"name": "party", "message": message})
    campaign = (await store.create(spec, Audience(rows=users))).campaign.id
    async with store.database.write("test") as connection:
        await connection.execute(update(ChunkRow).values(called_at=NOW, state=ChunkState.SETTLED))
    counts: list[int] = []

    def note(_: object, __: object, statement: str, parameters: Collection[Any], *___: Any) -> None:
        if "FROM campaign_chunks" in statement:
            counts.append(len(parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        called, _ = await people_index.reached(
            store.database, users[::100], [campaign], None, NOW - timedelta(hours=1)
        )
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert called == dict.fromkeys(users[::100], 1)
    # A parameter for each of them, and a look into the index that is planned, took most of the time.
    assert len(counts) == 1
    assert counts[0] < 10
