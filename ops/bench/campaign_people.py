"""How long it takes to find which of some people large campaigns have called today.

    python -m bench.campaign_people sqlite:////tmp/campaigns.db
    python -m bench.campaign_people postgresql://…

Each message asks that where an equal campaign runs, or where somebody may be near the day's cap. The tables
are made if they are not there, and filled with campaigns to the same people, all of whose calls were
accepted today, but for a tenth that are with a worker now.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import case, select, text, update

from dingrelay_tasks.message import digest
from dingrelay_workers.campaigns import people_index
from dingrelay_workers.campaigns.audience import Audience
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState
from dingrelay_workers.campaigns.spec import CampaignSpec
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.schema import upgrade

MESSAGE = {"msgtype": "text", "text": {"content": "hello"}}
ASKED = (1, 100, 500)
"""People of one question: a call has 100 at most, a script's call 500."""
TIMES = 21


async def fill(store: CampaignStore, campaigns: int, people: int) -> list[str]:
    """Make so many campaigns to so many people; their ids."""
    async with store.database.read() as connection:
        names = list(await connection.scalars(select(CampaignRow.id)))
    for number in range(len(names), campaigns):
        spec = CampaignSpec.parse({"name": f"campaign {number}", "message": MESSAGE})
        audience = Audience(rows=(f"user{each}" for each in range(people)))
        names.append((await store.create(spec, audience)).campaign.id)
        print(f"{number + 1} of {campaigns} campaigns", flush=True)
    state = case((ChunkRow.number % 10 == 0, ChunkState.QUEUED), else_=ChunkState.SETTLED)
    called = case((ChunkRow.number % 10 > 0, datetime.now(UTC)))
    async with store.database.write("bench") as connection:
        await connection.execute(update(ChunkRow).values(state=state, called_at=called))
    async with store.database.write("bench") as connection:
        await connection.execute(text("analyze"))
    return names


async def measure(store: CampaignStore, names: list[str], people: int) -> dict[str, list[float]]:
    """Median and longest of some questions, each for other people, in milliseconds."""
    since = datetime.now(UTC) - timedelta(hours=12)
    found: dict[str, list[float]] = {}
    for asked in ASKED:
        for what, content in (("of one content", digest(MESSAGE)), ("of any content", None)):
            times: list[float] = []
            for _ in range(TIMES):
                users = [f"user{each}" for each in random.sample(range(people), asked)]
                began = time.perf_counter()
                called, coming = await people_index.reached(
                    store.database, users, names, content, since
                )
                times.append((time.perf_counter() - began) * 1000)
                assert sum(called.values()) + sum(len(some) for *_, some in coming) == asked * len(
                    names
                )
            name = f"{asked} people, {what}"
            found[name] = [round(statistics.median(times), 1), round(max(times), 1)]
            print(f"{found[name][0]:8.1f} ms  {name} (longest {found[name][1]})", flush=True)
    return found


async def main() -> None:
    """Fill and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--campaigns", type=int, default=10)
    parser.add_argument("--people", type=int, default=1_000_000)
    given = parser.parse_args()
    await asyncio.to_thread(upgrade, given.url)
    store = CampaignStore(given.url)
    names = await fill(store, given.campaigns, given.people)
    print(json.dumps(await measure(store, names, given.people)))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main())
