"""Acquires a second and CPU time per acquire, with 64 waiters in one process on one Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import limits
from figures import Figure
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis
from stand import Stand
from throttled.asyncio import RateLimiterType, Throttled, store

from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules

WAITERS = 64
RATE = 1_000_000
"""Calls a second that the rule allows: it is in force, and what is measured is the asking."""
GROUP = "acquires per CPU second"

Acquire = Callable[[], Awaitable[object]]


def measure(stand: Stand, acquires: int) -> list[Figure]:
    """Acquires per CPU second of each library, and ours against the best of the others."""
    stand.clear()
    return asyncio.run(_measure(stand.redis_url, acquires))


async def _measure(url: str, acquires: int) -> list[Figure]:
    ways = {
        "dingrelay": _ours,
        "throttled-py token bucket": _throttled(RateLimiterType.TOKEN_BUCKET),
        "throttled-py GCRA": _throttled(RateLimiterType.GCRA),
        "limits sliding window": _limits,
    }
    results = {name: await way(url, acquires) for name, way in ways.items()}
    best = max(per_cpu for name, (per_cpu, _) in results.items() if name != "dingrelay")
    figures = [
        Figure(GROUP, name, per_cpu, "/CPU s", note=f"{per_second:,.0f}/s")
        for name, (per_cpu, per_second) in results.items()
    ]
    return [*figures, Figure(GROUP, "dingrelay ÷ best peer", results["dingrelay"][0] / best)]


async def _timed(acquire: Acquire, acquires: int) -> tuple[float, float]:
    """Acquires per CPU second and per second, by WAITERS tasks that each ask again and again."""

    async def ask() -> None:
        for _ in range(acquires // WAITERS):
            await acquire()

    await acquire()
    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask() for _ in range(WAITERS)))
    done = acquires // WAITERS * WAITERS
    return done / (time.process_time() - spent), done / (time.perf_counter() - began)


async def _ours(url: str, acquires: int) -> tuple[float, float]:
    rate = {"calls": f"{RATE}/1s"}
    rules = Rules.from_settings({"*": rate, "egress": rate}, "bench")
    async with Redis.from_url(url) as redis:
        limiter = Limiter(redis, rules, max_wait=60, local_waiters=WAITERS * 2)
        try:
            return await _timed(
                lambda: limiter.acquire("default", "bench", lane="normal", costs={"calls": 1}),
                acquires,
            )
        finally:
            await limiter.close()


def _throttled(
    algorithm: RateLimiterType,
) -> Callable[[str, int], Awaitable[tuple[float, float]]]:
    async def run(url: str, acquires: int) -> tuple[float, float]:
        throttle = Throttled(
            key="bench",
            using=algorithm.value,
            quota=f"{RATE}/s burst {RATE}",
            store=store.RedisStore(server=url),
            timeout=60,
        )
        return await _timed(throttle.limit, acquires)

    return run


async def _limits(url: str, acquires: int) -> tuple[float, float]:
    storage = RedisStorage(f"async+{url}", implementation="redispy")
    limiter = SlidingWindowCounterRateLimiter(storage)
    rule = limits.RateLimitItemPerSecond(RATE)
    return await _timed(lambda: limiter.hit(rule, "bench"), acquires)
