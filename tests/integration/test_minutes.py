"""Minutes of the fleet beside each limit, worker and endpoint."""

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from dingrelay_workers import minutes
from dingrelay_workers.limiter import overview
from dingrelay_workers.minutes import MINUTES, SHOWN, Minutes
from support.jobs import message
from support.workers import OneWorker


async def test_counts_of_processes_are_summed(redis: Redis) -> None:
    ours, theirs = Minutes(), Minutes()
    ours.count("calls", 2)
    for name in ("calls", "people"):
        theirs.count(name)
    for each in (ours, theirs, ours):
        await each.report(redis)
    found = await minutes.read(redis, ["calls", "people", "nothing"])
    assert {name: sum(each) for name, each in found.items()} == {
        "calls": 3,
        "people": 1,
        "nothing": 0,
    }
    assert {len(each) for each in found.values()} == {SHOWN}
    assert await minutes.read(redis, []) == {}


async def test_failed_reports_are_repeated(redis: Redis) -> None:
    counted = Minutes()
    counted.count("calls")
    async with Redis.from_url("redis://127.0.0.1:1") as away:
        with pytest.raises(RedisError):
            await counted.report(away)
    await counted.report(redis)
    assert sum((await minutes.read(redis, ["calls"]))["calls"]) == 1


async def test_limits_and_workers_show_what_was_sent(worker: OneWorker, redis: Redis) -> None:
    resources = worker.executor.resources
    # Earlier tests of this process may have counted the same bucket.
    await MINUTES.report(redis)
    await redis.flushdb()

    async def shown() -> dict[str, int]:
        await MINUTES.report(redis)
        limits = await overview.read(redis, resources.settings)
        name = minutes.worker(resources.worker)
        ran = await minutes.read(redis, [name])
        return {"jobs": sum(ran[name])} | {
            each.unit: sum(each.minutes) for each in limits.buckets if each.api == "message.send"
        }

    before = await shown()
    await worker.finish(await worker.send(message()))
    after = await shown()
    assert {name: after[name] - before.get(name, 0) for name in after} == {
        "jobs": 1,
        "calls": 1,
        "recipients": 1,
    }
