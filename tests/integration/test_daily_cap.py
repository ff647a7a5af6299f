"""Near the day's cap two workers send neither too much nor too little, by the sandbox's own count."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns import removal
from dingrelay_workers.limiter import daily_limits
from dingrelay_workers.maintenance.leader import WORK
from support import campaigns
from support.databases import prepare
from support.days import Story, a_story

NO_LIMITS = {"calls": "", "recipients": ""}
CAP = 12
"""Messages a day here: of DingTalk's 500 nothing else would differ."""


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
    given: Any = {"message_limits": NO_LIMITS, "call_timeout": 10}
    urls = {"valkey_url": valkey_url, "database_url": database_url}
    async with a_story(1, redis, sandbox, **urls, **given) as story:
        sandbox.set_limits(**NO_LIMITS, user_day=CAP)
        yield story


async def send(story: Story, number: int, *users: str) -> None:
    message = {"msgtype": "text", "text": {"content": f"message {number}"}}
    await story.enqueue({"to": {"users": list(users)}, "message": message})


async def start(story: Story, *, first: int, people: int) -> None:
    name = await campaigns.put(story.database, first=first, people=people, size=2)
    story.campaigns[name] = {}
    await WORK.announce(story.redis)


async def test_campaigns_and_messages_meet_at_the_cap(story: Story) -> None:
    """With 8 campaigns and 10 messages, each addressed person gets at most 12."""
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


async def test_a_deleted_campaign_still_counts_for_duplicates_of_the_day(story: Story) -> None:
    await start(story, first=1, people=3)
    await story.ended()
    (name,) = story.campaigns
    message = (await campaigns.read(story.database, name)).message
    await campaigns.hide(story.database, name)
    await removal.remove(story.database, name)
    story.campaigns.clear()
    await story.enqueue({"to": {"users": ["u1", "u4"]}, "message": message})
    await story.ended()
    result = (await story.status(*story.jobs)).result or {}
    assert result["duplicate"] == ["u1"]
    assert story.sandbox.audit()["dropped"] == {}
