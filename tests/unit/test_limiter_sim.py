"""A minute of a saturated limit in virtual time: how much of it is used, and at what price."""

from collections.abc import Iterator

import pytest
from redis import Redis

from dingrelay_producers.store.scripts import run
from dingrelay_sandbox.windows import WindowKind
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import MICRO, Ask, Reply
from dingrelay_workers.limiter.rules import Rules
from limiter_sim import FAR, NEAR, Simulation
from thorough import either

SEEDS = either((1,), (1, 2, 3))


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


@pytest.mark.parametrize(
    ("latency", "window", "used", "refused"),
    [
        (NEAR, "calendar", 0.98, 0.003),
        (NEAR, "bucket", 0.98, 0.003),
        (NEAR, "sliding", 0.95, 0.003),
        (FAR, "calendar", 0.97, 0.015),
        (FAR, "bucket", 0.97, 0.015),
        (FAR, "sliding", 0.90, 0.015),
    ],
)
def test_a_minute_from_a_cold_start_uses_the_limit_and_seldom_meets_it(
    redis: Redis, latency: tuple[float, float], window: WindowKind, used: float, refused: float
) -> None:
    for seed in SEEDS:
        redis.flushall()
        simulation = Simulation(redis, window, latency, seed)
        simulation.run(60)
        assert simulation.used(0, 60) >= used
        assert simulation.refused(0, 60) <= refused


@pytest.mark.parametrize("window", ["calendar", "bucket", "sliding"])
def test_the_rate_follows_a_limit_that_falls_and_rises(redis: Redis, window: WindowKind) -> None:
    simulation = Simulation(redis, window, NEAR, 1, changes=((8, 10), (24, 20)))
    simulation.run(52)
    assert simulation.refused(8, 13) <= 0.15
    assert simulation.used(13, 24, 10) >= 0.9
    assert simulation.refused(13, 24) <= 0.08
    assert simulation.used(49, 52) >= 0.94


@pytest.mark.parametrize(("late", "used"), [(0, 190), (0.6, 180), (4, 160), (25, 160)])
def test_a_robot_is_used_to_its_limit_and_never_beyond(
    redis: Redis, late: float, used: int
) -> None:
    """Ten minutes: 95 % of 20 a minute or more, and never a 21st call within a minute, though each fifth is late."""
    redis.flushall()
    rules = Rules.from_settings({}, "office").of("robots", "robot.webhook@abc")
    began = 1_800_000_000 * MICRO
    now, starts = began, list[float]()
    under_way: list[int] = []
    while now < began + 600 * MICRO:
        while under_way and under_way[0] <= now:
            charged = rules[0], min(1.0, late * rules[0].rate)
            run(redis, buckets.ended(rules, under_way.pop(0), charged=charged))
        call = buckets.acquire(rules, "normal", [Ask((1, 1))], now)
        reply = Reply.read(run(redis, call))
        for start in reply.starts:
            arrives = (now - began) / MICRO + start
            if late and len(starts) % 5 == 0:
                arrives += late
                under_way.append(began + round(arrives * MICRO))
            starts.append(arrives)
        now += max(1_000, round(reply.wait * MICRO))
    assert sum(at < 600 for at in starts) >= used
    assert max(sum(at <= other < at + 60 for other in starts) for at in starts) <= 20
