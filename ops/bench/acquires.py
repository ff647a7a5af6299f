"""Acquires a second and CPU time per acquire, with 64 waiters in one process on one Valkey."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import limits
from figures import Figure
from limits.aio.storage import RedisStorage
from limits.aio.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from testbed import Testbed
from throttled.asyncio import RateLimiterType, Throttled, store

from dingrelay_producers.settings import Settings
from dingrelay_workers.limiter.limiter import Limiter
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot_request import SlotRequest
from dingrelay_workers.store.connections import open_redis

WAITERS = 64
RATE = 1_000_000
"""Calls a second that the rule allows: it is in force, and what is measured is the asking."""
GROUP = "acquires per CPU second"

Acquire = Callable[[], Awaitable[object]]


def measure(testbed: Testbed, acquires: int) -> list[Figure]:
    """Acquires per CPU second of each library, and ours against the best of the others."""
    testbed.clear()
    return asyncio.run(_measure(testbed.redis_url, acquires))


async def _measure(url: str, acquires: int) -> list[Figure]:
    ours = await _ours(url, acquires)
    peers = {name: await way(url, acquires) for name, way in PEERS.items()}
    best = max(peers, key=lambda name: peers[name][0])
    ratio = ours[0] / peers[best][0]
    return [
        Figure(GROUP, "dingrelay ÷ best peer", ratio, "×", at_least=3, note=f"best: {best}"),
        *(
            Figure(GROUP, name, per_cpu, "/CPU s", note=f"{per_second:,.0f}/s")
            for name, (per_cpu, per_second) in {"dingrelay": ours, **peers}.items()
        ),
    ]


async def _timed(acquire: Acquire, acquires: int) -> tuple[float, float]:
    """Acquires per CPU second and per second, by WAITERS tasks that each ask again and again."""

    async def ask() -> None:
        for _ in range(acquires // WAITERS):
            await acquire()

    # Opens the connections.
    await asyncio.gather(*(acquire() for _ in range(WAITERS)))
    began, spent = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask() for _ in range(WAITERS)))
    done = acquires // WAITERS * WAITERS
    return done / (time.process_time() - spent), done / (time.perf_counter() - began)


async def _ours(url: str, acquires: int) -> tuple[float, float]:
    rate = {"calls": f"{RATE}/1s"}
    rules = Rules.from_settings({"*": rate, "egress": rate}, "bench")
    async with open_redis(Settings.load(env="sandbox", redis_url=url)) as redis:
        limiter = Limiter(redis, rules, max_wait=60, local_waiters=WAITERS * 2)
        try:
            return await _timed(
                lambda: limiter.acquire("default", "bench", lane="normal", request=SlotRequest()),
                acquires,
            )
        finally:
            await limiter.close()


def _throttled(
    algorithm: RateLimiterType,
) -> Callable[[str, int], Awaitable[tuple[float, float]]]:
    async def run(url: str, acquires: int) -> tuple[float, float]:
        throttle = Throttled(
            key=f"bench:{algorithm.value}",
            using=algorithm.value,
            quota=f"{RATE}/s burst {RATE}",
            store=store.RedisStore(server=url),
            timeout=60,
        )
        return await _timed(throttle.limit, acquires)

    return run


def _limits(strategy: type[RateLimiter]) -> Callable[[str, int], Awaitable[tuple[float, float]]]:
    async def run(url: str, acquires: int) -> tuple[float, float]:
        limiter = strategy(RedisStorage(f"async+{url}", implementation="redispy"))
        rule = limits.RateLimitItemPerSecond(RATE)
        return await _timed(lambda: limiter.hit(rule, strategy.__name__), acquires)

    return run


PEERS = {
    "throttled-py fixed window": _throttled(RateLimiterType.FIXED_WINDOW),
    "throttled-py sliding window": _throttled(RateLimiterType.SLIDING_WINDOW),
    "throttled-py token bucket": _throttled(RateLimiterType.TOKEN_BUCKET),
    "throttled-py leaking bucket": _throttled(RateLimiterType.LEAKING_BUCKET),
    "throttled-py GCRA": _throttled(RateLimiterType.GCRA),
    "limits fixed window": _limits(FixedWindowRateLimiter),
    "limits sliding window": _limits(SlidingWindowCounterRateLimiter),
    "limits moving window": _limits(MovingWindowRateLimiter),
}
