"""Lists of campaigns a page at a time, as a gateway shows each key its own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import campaigns
from dingrelay_producers.client.filters import CampaignFilter
from dingrelay_workers.campaigns.models import State
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_a_list_holds_what_was_chosen_and_each_campaign_once(
    database: Database, database_url: str
) -> None:
    ids = [
        await campaigns.put(
            database,
            app=("default", "hr")[number % 2],
            sender=("crm", "crm", "shop")[number % 3],
            state=State.DRAFT if number < 3 else State.RUNNING,
            # Two of a moment, which a page may part.
            created_at=NOON + timedelta(microseconds=number // 2),
        )
        for number in range(6)
    ]
    store = CampaignStore(database_url)

    async def listed(**chosen: Any) -> list[str]:
        return [row.id for row in await store.list(CampaignFilter(**chosen), limit=100)]

    everything = await listed()
    assert set(everything) == set(ids)
    assert set(await listed(apps=["hr"])) == set(ids[1::2])
    assert await listed(apps=[]) == []
    assert set(await listed(apps=["hr", "default"], sender="shop")) == {ids[2], ids[5]}
    assert set(await listed(state=State.DRAFT, sender="crm")) == {ids[0], ids[1]}

    seen: list[str] = []
    after = None
    while page := await store.list(limit=1, after=after):
        seen.append(page[0].id)
        after = (page[0].created_at, page[0].id)
    assert seen == everything
    await store.close()
