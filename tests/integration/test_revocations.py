from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_workers.store.connections import RedisRetry
from dingrelay_workers.store.records import Records, Revocations, Usage
from support.jobs import a_draft, a_wakeup, state


async def test_a_revoked_unknown_job_is_kept(redis: Redis, valkey_url: str) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, record_ttl=60)
    where = {"queue": "dingrelay.normal", "lane": "normal"}
    waits: dict[Any, Any] = {"state": "snoozed", "intent": "{}", **where}
    await redis.hset(keys.job("j"), mapping=waits)
    await redis.expire(keys.job("j"), 60)
    await Revocations(redis, settings, RedisRetry()).revoke(["j"])
    assert await redis.hget(keys.job("j"), "state") == State.UNKNOWN.encode()
    assert 60 < await redis.ttl(keys.job("j")) <= settings.dead_ttl


async def test_a_job_that_was_revoked_before_its_message_came_is_cancelled_whatever_is_lost(
    redis: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try to cancel it fails, as where Redis is away just then."""
    settings = Settings.load(env="test", redis_url=valkey_url)
    revocations = Revocations(redis, settings, RedisRetry())
    records = Records(redis, settings, on_made=revocations.made)
    draft = a_draft()
    await revocations.revoke([draft.id])

    async def lost(_: str) -> bool:
        raise RedisConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(revocations, "_cancel", lost)
        with pytest.raises(RedisConnectionError):
            await records.claim(a_wakeup(draft, woken=0))
    found = await records.claim(a_wakeup(draft, woken=0))
    assert found.claim
    assert await records.write_intent(found.claim, {"step": "call:1"}, Usage()) == "cancelled"
    assert await records.park(found.claim, State.SNOOZED, delay=0, usage=Usage()) == State.CANCELLED
    assert await state(redis, draft) == State.CANCELLED
    assert not await redis.exists(keys.revoked(draft.id))
