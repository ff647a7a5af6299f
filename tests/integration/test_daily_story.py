"""A random day: what jobs say of it is what happened (`support/days.py`)."""

import pytest
from redis.asyncio import Redis

from dingrelay_sandbox.admin import SandboxAdmin
from support.databases import prepare
from support.days import Verifier, a_story

STEPS = 50


@pytest.mark.parametrize("seed", [1, 2])
async def test_results_of_jobs_of_a_day_are_true(
    seed: int, redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str
) -> None:
    prepare(sqlite_url)
    async with a_story(
        seed, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url
    ) as story:
        await story.play(STEPS)
        problems = await Verifier(story).problems()
    assert not problems, "\n".join([*problems, *story.log])
