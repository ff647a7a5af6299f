"""The rate of each API key over all gateways, kept by the limiter's own buckets."""

import asyncio
from functools import cached_property

from redis.asyncio import Redis

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.store.keys import KEY_BUCKETS
from dingrelay_producers.store.scripts import run_async
from dingrelay_workers.http.api_keys import ApiKey
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import Ask, Reply
from dingrelay_workers.limiter.rules import Rule

MAX_WAIT = 0.5
"""Seconds that a request may wait for its turn before it is refused.

Requests come in handfuls. Those of a page that makes ten at once are let through one after the
other, at the key's rate, instead of nine of them being refused.
"""

_BURST_SHARE = 25
"""One in so many of a window's requests may come at once: a window, wherever it starts, holds 4 %
more than the limit at most, or one request."""


class KeyRule(Rule):
    """The limit of one key.

    DingTalk's limits are never reached, at the price of some of the rate. A key's is ours: its rate
    is what was given, in the long run exactly.
    """

    @classmethod
    def of(cls, key: ApiKey) -> "KeyRule | None":
        """The limit of this key; None if it has none."""
        if key.rate is None:
            return None
        return cls(f"key:{key.id}", "*", "calls", key.rate.limit, key.rate.window)

    @cached_property
    def burst(self) -> int:
        """Requests that may come at once."""
        return max(1, (self.limit or 0) // _BURST_SHARE)

    @cached_property
    def adaptive(self) -> bool:
        """It is what it is."""
        return False

    @cached_property
    def rate(self) -> float:
        """Requests a second."""
        return (self.limit or 0) / self.window


class KeyRates:
    """Counts the requests of keys over all gateways.

    Args:
        redis: which gives up early where Redis is away.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def take(self, key: ApiKey) -> float | None:
        """Count one request, after waiting for its turn for up to `MAX_WAIT` seconds.

        Returns:
            None if it may go on, else the seconds after which the next one may. While Redis is away
            all may: DingTalk's limits hold.
        """
        rule = KeyRule.of(key)
        if rule is None:
            return None
        call = buckets.acquire([rule], "normal", [Ask((1,))], max_wait=MAX_WAIT, index=KEY_BUCKETS)
        try:
            async with asking():
                reply = Reply.read(await run_async(self._redis, call))
        except ServiceUnavailable:
            return None
        if not reply.starts:
            return reply.wait
        if reply.starts[0] > 0:
            await asyncio.sleep(reply.starts[0])
        return None
