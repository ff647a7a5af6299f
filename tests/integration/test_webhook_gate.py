"""The gate before an endpoint, on a real Valkey."""

from redis.asyncio import Redis

from dingrelay_producers.store import keys
from dingrelay_workers.webhooks.gate import PLACES, Gate


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
