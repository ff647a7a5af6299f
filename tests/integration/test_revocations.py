from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_workers.store.patience import Patience
from dingrelay_workers.store.revocations import Revocations

DEAD_TTL = 600


async def test_a_revoked_job_whose_call_was_lost_is_kept_as_long_as_the_settings_say(
    redis: Redis, valkey_url: str
) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, record_ttl=60, dead_ttl=DEAD_TTL)
    waits: dict[Any, Any] = {
        "state": "snoozed",
        "intent": "{}",
        "queue": "dingrelay.normal",
        "lane": "normal",
    }
    await redis.hset(keys.job("j"), mapping=waits)
    await redis.expire(keys.job("j"), 60)
    await Revocations(redis, settings, Patience()).revoke(["j"])
    assert await redis.hget(keys.job("j"), "state") == State.UNKNOWN.encode()
    assert await redis.ttl(keys.job("j")) <= DEAD_TTL
