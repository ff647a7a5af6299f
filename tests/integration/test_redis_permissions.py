"""The Redis user of the guide may run scripts whatever a job has of what is optional: Redis checks each declared key."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_workers.jobs.robots import JobDigests
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import Turns
from dingrelay_workers.store.records import Records, Usage
from support.jobs import running

GUIDE = Path(__file__).parents[2] / "docs/guide/operating.md"


@pytest.fixture
async def permitted(redis: Redis, valkey_url: str) -> AsyncIterator[Redis]:
    """Redis as that user."""
    rules = re.search(r"^ACL SETUSER dingrelay (.*)$", GUIDE.read_text("utf-8"), re.MULTILINE)
    assert rules
    await redis.execute_command("ACL", "SETUSER", "dingrelay", *rules[1].split())
    client = Redis.from_url(valkey_url, username="dingrelay", password="PASSWORD")
    yield client
    await client.aclose()
    await redis.execute_command("ACL", "DELUSER", "dingrelay")


async def test_a_job_is_parked_without_a_turn_or_an_outage(
    permitted: Redis, settings: Settings
) -> None:
    records = Records(permitted, settings, worker="w:1:a")
    _, claim = await running(permitted, records)
    parked = await records.park(claim, State.RETRYING, delay=9, usage=Usage(attempts=1))
    assert parked == State.RETRYING


async def test_a_job_that_shares_no_call_waits_for_its_turn(permitted: Redis) -> None:
    rules = Rules.from_settings({"*": {"calls": "2/1s"}}, "office").of("default", "message.send")
    turns = Turns("default", "message.send", "normal")
    costs = buckets.costs(rules, 0)
    micros, reason, _ = await run_async(permitted, buckets.park(rules, turns, costs, "crm"))
    assert (micros > 0, reason) == (True, b"")


async def test_a_digest_is_closed(permitted: Redis) -> None:
    digests = JobDigests(permitted, "job")
    digest, _ = await digests.join("robot", {"text": "down"})
    assert await digests.close("robot", digest, 60) == 0
