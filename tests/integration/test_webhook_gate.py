"""The gate before an endpoint, on a real Valkey."""

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_tasks.context import Receipt
from dingrelay_workers.webhooks.gate import FIRST_PAUSE, NEEDED, PLACES, Gate
from jobs import server_time


async def test_a_place_lasts_longer_than_the_longest_request(redis: Redis) -> None:
    timeout = 120.0
    gate = Gate(redis, timeout=timeout)
    seconds, microseconds = await redis.time()
    for number in range(PLACES):
        assert await gate.enter("drw_000000000000", f"job{number}")
    assert not await gate.enter("drw_000000000000", "one more")

    places = await redis.zrange(keys.webhook_places("drw_000000000000"), 0, -1, withscores=True)
    began_ms = seconds * 1000 + microseconds / 1000
    assert all(until - began_ms >= timeout * 1000 for _, until in places)
    assert await redis.pttl(keys.webhook_places("drw_000000000000")) >= timeout * 1000


async def test_a_breaker_stands_open_no_longer_for_a_clock_that_stepped_back(redis: Redis) -> None:
    endpoint, gate = "drw_000000000000", Gate(redis)
    for number in range(NEEDED):
        assert await gate.enter(endpoint, f"job{number}")
        await gate.leave(endpoint, f"job{number}", Receipt("failed", "http_500", "", 500))
    assert not await gate.enter(endpoint, "early")
    for moment in ("failed", "until"):
        await redis.hincrby(keys.webhook_gate(endpoint), moment, 3_600_000)
    assert await gate.enter(endpoint, "trial")
    assert not await gate.enter(endpoint, "another")
    await gate.leave(endpoint, "trial", Receipt("failed", "http_500", "", 500))
    pause = int(await redis.hget(keys.webhook_gate(endpoint), "until")) - await server_time(redis)
    assert pause <= 2 * FIRST_PAUSE.total_seconds() * 1000
    assert not await gate.enter(endpoint, "late")
