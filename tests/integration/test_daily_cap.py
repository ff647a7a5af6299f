"""Near the day's cap two workers send neither too much nor too little, by the sandbox's own count."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert, update

import campaigns
from daily_story import Story, a_story
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns import leader, people_index
from dingrelay_workers.campaigns.models import CampaignRow, ChunkRow, ChunkState, OutcomeRow, State
from dingrelay_workers.database.database import Database
from dingrelay_workers.limiter import daily_limits
from tables import prepare

CAP = 12
"""Messages a day here: of DingTalk's 500 nothing else would differ."""
NOW = datetime.now(UTC)


@pytest.fixture
async def story(
    redis: Redis,
    sandbox: SandboxAdmin,
    valkey_url: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Story]:
    prepare(database_url)
    monkeypatch.setattr(daily_limits, "DAILY_MESSAGES", CAP)
    async with a_story(
        1,
        redis,
        sandbox,
        valkey_url=valkey_url,
        database_url=database_url,
        message_limits={"calls": "", "recipients": ""},
        call_timeout=10,
    ) as story:
        sandbox.set_limits(calls="", recipients="", user_day=CAP)
        yield story


async def send(story: Story, number: int, *users: str) -> None:
    message = {"msgtype": "text", "text": {"content": f"message {number}"}}
    await story.enqueue({"to": {"users": list(users)}, "message": message})


async def start(story: Story, *, first: int, people: int) -> None:
    name = await campaigns.put(story.database, first=first, people=people, size=2)
    story.campaigns[name] = {}
    await leader.signal(story.redis)


async def test_campaigns_and_messages_meet_at_the_cap(story: Story) -> None:
    """Of 8 campaigns and 10 messages everybody gets 12 who is meant by more than that."""
    deeds = [start(story, first=1, people=4) for _ in range(8)]
    deeds += [send(story, number, "u1", "u2", "u5") for number in range(10)]
    random.Random(1).shuffle(deeds)
    await asyncio.gather(*deeds)
    await story.ended()
    assert story.sandbox.audit()["dropped"] == {}
    received = {f"u{n}": len(story.sandbox.inbox(f"u{n}")["delivered"]) for n in range(1, 6)}
    assert received == {"u1": CAP, "u2": CAP, "u3": 8, "u4": 8, "u5": 10}


async def test_a_person_in_no_campaign_gets_the_whole_day(story: Story) -> None:
    for _ in range(CAP):
        await start(story, first=1, people=2)
    await story.ended()
    for number in range(CAP + 1):
        await send(story, number, "u1", "u7")
    await story.ended()
    assert story.sandbox.audit()["dropped"] == {}
    delivered = [len(story.sandbox.inbox(user)["delivered"]) for user in ("u1", "u2", "u7")]
    assert delivered == [CAP, CAP, CAP]
    results = [(await story.status(job)).result or {} for job in story.jobs]
    assert sum("u1" in each["daily_cap"] for each in results) == CAP + 1
    assert sum("u7" in each["daily_cap"] for each in results) == 1


async def test_campaigns_that_may_have_reached_somebody_count(database_url: str) -> None:
    prepare(database_url)
    database = Database(database_url)
    called, unknown, refused, waiting, deleted = [
        await campaigns.put(database, people=1) for _ in range(5)
    ]
    settled = {"state": ChunkState.SETTLED}
    async with database.write("test") as connection:
        for name, values in {
            called: {**settled, "called_at": NOW},
            unknown: {**settled, "error": {"class": "unknown"}},
            refused: {**settled, "error": {"class": "permanent"}},
        }.items():
            await connection.execute(
                update(ChunkRow).where(ChunkRow.campaign == name).values(**values)
            )
        lost = {"campaign": called, "chunk": 0, "userid": "u1", "outcome": "unknown", "reason": ""}
        await connection.execute(insert(OutcomeRow), lost)
        await connection.execute(
            update(CampaignRow).where(CampaignRow.id == deleted).values(state=State.CREATING)
        )

    async def count(*names: str, content: str | None = None) -> int:
        since = NOW - timedelta(hours=1)
        found, coming = await people_index.reached(database, ["u1"], names, content, since)
        assert coming == []
        return found["u1"]

    everything = (called, unknown, refused, waiting, deleted)
    assert [await count(name) for name in (*everything, "none")] == [1, 1, 0, 0, 1, 1]
    assert await count(*everything, "none", "none") == 4
    assert await count(*everything, content="x") == 0, "nothing is a duplicate of what is unknown"
    await database.dispose()
