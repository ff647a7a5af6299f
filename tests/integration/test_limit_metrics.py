"""Prometheus metrics of the fleet's buckets."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisAway

from conftest import wait_until_async
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_workers.limiter.buckets import BucketState
from dingrelay_workers.limiter.slot import Parked, SlotRequest, Turns
from dingrelay_workers.metrics import LIMITS
from dingrelay_workers.resources import Resources

ONE = SlotRequest(Turns("default", "message.send", "normal"), 1)
BULK = SlotRequest(Turns("default", "message.send", "bulk"), 1)


@pytest.fixture(autouse=True)
def _nothing_shown() -> Iterator[None]:
    yield
    LIMITS.states = ()


def shown(name: str, scope: str, api: str, unit: str) -> float | None:
    labels = {"scope": scope, "api": api, "unit": unit}
    return REGISTRY.get_sample_value(f"dingrelay_limit_{name}", labels)


async def test_a_worker_shows_the_buckets_of_the_fleet(valkey_url: str) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url, metrics_port=9464)
    calls = ("app:default", "message.send", "calls")
    async with Resources(settings, Publisher(settings)) as resources:
        await resources.limiter.acquire(ONE)
        throttling = {"pause": 60, "everything": False, "reason": "90018"}
        await resources.limiter.throttled("default", "message.send", **throttling)
        with pytest.raises(Parked):
            await resources.limiter.acquire(BULK)
        LIMITS.states = await resources.limiter.states()
    assert shown("per_second", *calls) == 20
    assert shown("rate", *calls) == pytest.approx(0.7 * 19)
    assert shown("ceiling", *calls) is None
    assert 50 < (shown("paused_seconds", *calls) or 0) <= 60
    assert shown("throttles", *calls) == 1
    assert (shown("horizon_seconds", *calls), shown("waiting_jobs", *calls)) == (0, 0)
    assert shown("paused_seconds", "egress:default", "*", "calls") == 0


@pytest.mark.parametrize("port", [0, 9464], ids=["not served", "served"])
async def test_the_metrics_are_kept_current_only_where_they_are_served(
    valkey_url: str, port: int
) -> None:
    settings = Settings.load(env="sandbox", redis_url=valkey_url, metrics_port=port)
    async with Resources(settings, Publisher(settings)) as resources:
        await resources.limiter.acquire(ONE)
    async with Resources(settings, Publisher(settings)):
        await wait_until_async(lambda: LIMITS.states or not port)
    assert bool(LIMITS.states) == bool(port)


async def test_redis_health_is_shown(valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dingrelay_workers.resources.LIMITS_EVERY", 0.01)

    async def away() -> list[BucketState]:
        raise RedisAway

    async def shown(value: float) -> None:
        name = "dingrelay_redis_reachable"
        await wait_until_async(lambda: REGISTRY.get_sample_value(name) == value)

    settings = Settings.load(env="sandbox", redis_url=valkey_url, metrics_port=9464)
    async with Resources(settings, Publisher(settings)) as resources:
        await shown(1)
        with monkeypatch.context() as broken:
            broken.setattr(resources.limiter, "states", away)
            await shown(0)
        await shown(1)
