"""A chunk that is larger than a call may be by now is split, and everybody gets the campaign once."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

import campaigns
from daily_story import a_story
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns import chunks, people_index
from dingrelay_workers.campaigns.chunks import split
from dingrelay_workers.database.database import Database
from dingrelay_workers.maintenance.leader import WORK, Work
from dingrelay_workers.resources import Resources
from tables import prepare

NOW = datetime.now(UTC)


@dataclass
class Engines:
    """What is asked for by every test here."""

    redis: Redis
    sandbox: SandboxAdmin
    valkey_url: str
    database_url: str


@pytest.fixture
def on(redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str) -> Engines:
    prepare(sqlite_url)
    return Engines(redis, sandbox, valkey_url, sqlite_url)


def _opener(
    resources: Resources, limits: Iterator[int]
) -> Callable[[Callable[[], datetime]], Awaitable[Work]]:
    """Opens dispatchers that see these limits before the true ones."""
    real = resources.leader._posts[0]._open

    async def open_work(now: Callable[[], datetime]) -> Work:
        dispatcher: Any = await real(now)
        true = dispatcher._users_per_call
        dispatcher._users_per_call = lambda app: next(limits, 0) or true(app)
        work: Work = dispatcher
        return work

    return open_work


@pytest.mark.parametrize("released", [False, True])
async def test_a_small_limit_of_recipients_is_kept(on: Engines, *, released: bool) -> None:
    """Whether the limit was lowered before a chunk was released, or after."""
    async with a_story(
        1,
        on.redis,
        on.sandbox,
        valkey_url=on.valkey_url,
        database_url=on.database_url,
        message_limits={"calls": "", "recipients": "50/1s"},
    ) as story:
        on.sandbox.set_limits(calls="", window="sliding")
        name = await campaigns.put(story.database, people=60, size=60)
        if released:
            limits = iter([60])
            for executor in story.wakeups.executors:
                post = executor.resources.leader._posts[0]
                post._open = _opener(executor.resources, limits)
        story.campaigns[name] = {}
        await WORK.announce(on.redis)
        await story.ended()
        rows = await campaigns.chunks(story.database, name)
        row = await campaigns.read(story.database, name)
    assert on.sandbox.audit()["dropped"] == {}
    assert on.sandbox.audit()["delivered"] == 60
    assert max(chunk.size for chunk in rows) == 25
    assert (row.accepted, row.chunks, row.settled, row.calls) == (60, 3, 3, 3)
    assert len({user for chunk in rows for user in chunk.users.split(",")}) == 60


async def test_people_moved_to_another_chunk_are_found_there(database: Database) -> None:
    name = await campaigns.put(database, people=7, size=4, index_bits=0)
    async with database.write(name) as connection:
        await split(connection, name, 1, 3)
        await split(connection, name, 2, 2)
        released = await chunks.release(connection, name, 9, NOW)
    people = {chunk.release.number: chunk.users for chunk in released}
    assert people == {0: ["u1", "u2"], 1: ["u5", "u6"], 2: ["u4"], 3: ["u3"], 4: ["u7"]}
    assert (await campaigns.read(database, name)).chunks == 5
    async with database.read() as connection:
        for user, number in (("u3", 3), ("u4", 2), ("u7", 4)):
            found = await people_index.chunks_of(connection, [user], [name])
            assert number in (found[name] or ())
