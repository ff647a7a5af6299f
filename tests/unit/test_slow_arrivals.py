"""Recipients are counted when a call arrives; these calls take their time (API §2.1).

The scripts run against a real Valkey, on a clock of the test's own.
"""

import heapq
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from dingrelay_producers.store.scripts import run
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import Ask, Reply
from dingrelay_workers.limiter.rules import JITTER, Rule

EPOCH = 1_800_000_000_000_000
MICRO = 1_000_000
SLOW = Rule("app:a", "message.send", "recipients", 600, 12)
LONGEST = 4.0
"""Seconds that a call is on its way at most."""

Sent = tuple[Lane, int, float, float]
"""Lane and recipients of a call, seconds until it arrives, and from then until its answer."""


class Network:
    """Calls that leave as soon as the bucket lets them, and arrive later."""

    def __init__(self, redis: Redis, rule: Rule) -> None:
        redis.flushall()
        self.redis = redis
        self.rule = rule
        self.now = EPOCH
        self.arrived: list[tuple[int, int]] = []
        self._answers: list[tuple[int, int]] = []

    def send(self, lane: Lane, cost: int, way: float, back: float) -> None:
        while True:
            ask = buckets.acquire((self.rule,), lane, [Ask((cost,))], self.now)
            reply = Reply.read(run(self.redis, ask))
            if reply.starts:
                break
            self._sleep(max(reply.wait, 0.001))
        left = self.now + round(reply.starts[0] * MICRO)
        self.arrived.append((left + round(way * MICRO), cost))
        if way + back > JITTER:
            heapq.heappush(self._answers, (left + round((way + back) * MICRO), cost))

    def most(self) -> int:
        """The most recipients that arrived in any window."""
        arrived = sorted(self.arrived)
        length = round(self.rule.window * MICRO) - 2 * len(arrived)
        first = total = most = 0
        for at, cost in arrived:
            total += cost
            while arrived[first][0] <= at - length:
                total -= arrived[first][1]
                first += 1
            most = max(most, total)
        return most

    def _sleep(self, seconds: float) -> None:
        until = self.now + round(seconds * MICRO)
        while self._answers and self._answers[0][0] <= until:
            at, cost = heapq.heappop(self._answers)
            self.now = max(self.now, at)
            run(self.redis, buckets.ended((self.rule,), self.now, charged=(self.rule, cost)))
        self.now = until


def bunched(slow: int, fast: int) -> list[Sent]:
    """Slow calls, and then fast ones that arrive together with them."""
    ways = [LONGEST] * slow + [0.0] * fast
    return [("normal", 20, way, 0.0) for way in ways]


@given(
    calls=st.lists(
        st.tuples(
            st.sampled_from(("urgent", "normal", "bulk")),
            st.integers(1, 100),
            st.one_of(st.sampled_from((0.0, LONGEST)), st.floats(0, LONGEST)),
            st.floats(0, 0.4),
        ),
        max_size=60,
    )
)
@example(calls=bunched(slow=14, fast=40))
@example(calls=bunched(slow=30, fast=40))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_windows_hold_however_slow_the_calls(valkey_url: str, calls: Sequence[Sent]) -> None:
    with Redis.from_url(valkey_url) as redis:
        network = Network(redis, SLOW)
        for call in calls:
            network.send(*call)
    assert network.most() <= 600


@pytest.mark.parametrize("limit", [1, 2, 3, 50, 99, 100, 101])
def test_a_limit_of_a_hundred_or_less_holds(valkey_url: str, limit: int) -> None:
    rule = Rule("app:a", "message.send", "recipients", limit, 60)
    with Redis.from_url(valkey_url) as redis:
        for cost in {1, rule.burst}:
            network = Network(redis, rule)
            for _ in range(3 * limit // cost):
                network.send("bulk", cost, 0.0, 0.0)
            assert network.most() <= limit
            used = sum(cost for _, cost in network.arrived) / (network.now - EPOCH) * MICRO * 60
            assert used >= min(limit / 3, 1), "it is used, too"
