"""What a campaign leaves in Redis for the daily limits, and how long its scripts take.

    python -m bench.day_counts redis://localhost:6379/9 --people 200000

Writes into that database and empties it first. Each chunk of 100 reserves and settles as a worker does.
"""

import argparse
import asyncio
from collections import Counter
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.ownership import Ownership
from dingrelay_producers.store.states import State
from dingrelay_workers.limiter.daily_limits import DailyLimits
from dingrelay_workers.store.claim import claim_of
from dingrelay_workers.store.records import Records, Usage

MESSAGE = {"msgtype": "text", "text": {"content": "hello"}}
CALL = 100
LOOKED_AT = 20
"""One of so many keys is looked at."""


async def send(redis: Redis, people: int) -> None:
    """Have so many people called, a hundred at a time."""
    limits, records = DailyLimits(redis), Records(redis, Settings.load(env="test"))
    for start in range(0, people, CALL):
        run = Ownership(f"chunk{start}", "worker/1", 1)
        fields: dict[Any, Any] = {
            "state": "running",
            "owner": run.owner,
            "fence": "1",
            "queue": "dingrelay.bulk",
        }
        fields |= {"kind": "campaign-chunk", "app": "default", "lane": "bulk", "payload": "{}"}
        fields |= {"created": "0"}
        await redis.hset(keys.job(run.job), mapping=fields)
        users = [f"{10**15 + number * 7919}" for number in range(start, start + CALL)]
        verdict, _ = await limits.reserve("default", run, users, MESSAGE, step="call")
        assert verdict.users == users
        pairs = [each.encode() for pair in fields.items() for each in pair]
        usage = Usage(answered=True, steps={"call": {}}, reserved=CALL)
        assert await records.settle(claim_of(run.job, 0, pairs), State.DONE, usage=usage)
        await redis.delete(keys.job(run.job))


async def cpu(redis: Redis) -> float:
    """Seconds of CPU that the server has spent."""
    info = await redis.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


async def main() -> None:
    """Send, and print what is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--people", type=int, default=1_000_000)
    given = parser.parse_args()
    redis = Redis.from_url(given.url)
    await redis.flushdb()
    await send(redis, CALL)
    await redis.flushdb()
    await redis.config_resetstat()
    before, began = (await redis.info("memory"))["used_memory"], await cpu(redis)
    await send(redis, given.people)
    taken, spent = (await redis.info("memory"))["used_memory"] - before, await cpu(redis) - began
    print(f"{taken / 1e6:.1f} MB, {taken / given.people:.1f} bytes a person")
    found: Counter[tuple[bytes, bytes]] = Counter()
    size: Counter[bytes] = Counter()
    number = 0
    async for name in redis.scan_iter(f"{keys.received('default', '*')}:*", count=1000):
        number += 1
        if number % LOOKED_AT == 0:
            what = b"who has it" if b":had:" in name else b"messages"
            found[what, await redis.object("ENCODING", name)] += 1
            size[what] += (await redis.memory_usage(name) or 0) * LOOKED_AT
    for (what, encoding), count in sorted(found.items()):
        each = size[what] / given.people
        print(
            f"{what.decode()}: {count * LOOKED_AT} {encoding.decode()}s, {each:.1f} bytes a person"
        )
    scripts = (await redis.info("commandstats"))["cmdstat_evalsha"]
    print(f"{spent / scripts['calls'] * 1000:.2f} ms of CPU a script and what else a job costs")
    await redis.flushdb()
    await redis.aclose()


if __name__ == "__main__":
    asyncio.run(main())
