"""A person is found in all campaigns, on each database."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import insert

import campaigns as rows
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.campaigns.report import campaigns_of
from dingrelay_workers.database.database import Database
from tables import prepare

NOW = datetime.now(UTC)


async def test_somebody_is_found_however_many_campaigns_came_later(database_url: str) -> None:
    prepare(database_url)
    database = Database(database_url)
    older = [await rows.put(database, created_at=NOW - timedelta(days=ago)) for ago in (8, 9)]
    like = await rows.read(database, older[0])
    later = [
        {**like._mapping, "id": f"later {number}", "index_bits": 0, "created_at": NOW}
        for number in range(1_100)
    ]
    async with database.write("test") as connection:
        await connection.execute(insert(CampaignRow), later)
    async with database.read() as connection:
        found = await campaigns_of(connection, "u1", app="default", most=50)
        assert [each.campaign for each in found] == older
        assert len(await campaigns_of(connection, "u1", app=None, most=1)) == 1
        assert await campaigns_of(connection, "u1", app="another", most=50) == []
    await database.dispose()
