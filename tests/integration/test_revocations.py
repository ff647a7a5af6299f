import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.states import State
from dingrelay_workers.audit.models import AuditRow
from dingrelay_workers.database.database import Database
from dingrelay_workers.store.connections import RedisRetry
from dingrelay_workers.store.records import Records, Usage
from dingrelay_workers.store.revocations import Revocations
from support.jobs import a_draft, a_wakeup, queued, state
from support.rows import all_of


def revocations(redis: Redis, settings: Settings, worker: str = "w1") -> Revocations:
    return Revocations(redis, settings, RedisRetry(), worker=worker)


async def audited(database: Database) -> list[tuple[Any, ...]]:
    names = ("actor", "action", "kind", "object", "app", "lane")
    return [tuple(row[name] for name in names) for row in await all_of(database, AuditRow)]


async def test_a_revoked_unknown_job_is_kept(redis: Redis, settings: Settings) -> None:
    draft = await queued(redis)
    await redis.hset(keys.job(draft.id), mapping={"state": "snoozed", "intent": "{}"})
    cancelled: list[str] = []
    await revocations(redis, settings).revoke([draft.id], cancelled.append)
    assert (await state(redis, draft), cancelled) == (State.UNKNOWN, [])
    left = await redis.ttl(keys.job(draft.id))
    assert settings.record_ttl < left <= settings.dead_ttl


async def test_a_fleet_revokes_a_job_and_writes_it_into_the_audit_once(
    redis: Redis, each_settings: Settings, database: Database
) -> None:
    draft = await queued(redis, app="hr", lane="urgent")
    cancelled: list[str] = []
    workers = [revocations(redis, each_settings, f"w{number}") for number in range(3)]
    await asyncio.gather(*(each.revoke([draft.id], cancelled.append) for each in workers))
    assert (await state(redis, draft), set(cancelled)) == (State.CANCELLED, {draft.id})
    await workers[0].revoke(["none"])
    assert await audited(database) == [("flower", "cancel", "job", draft.id, "hr", "urgent")]


async def test_a_job_that_was_revoked_before_its_message_came_is_cancelled_whatever_is_lost(
    redis: Redis, each_settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try to cancel it fails, as where Redis is away just then."""
    revoking = revocations(redis, each_settings)
    records = Records(redis, each_settings, on_made=revoking.made)
    draft = a_draft()
    await revoking.revoke([draft.id])

    async def lost(*_: object, **__: object) -> bool:
        raise RedisConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(revoking, "_cancel", lost)
        with pytest.raises(RedisConnectionError):
            await records.claim(a_wakeup(draft, woken=0))
    found = await records.claim(a_wakeup(draft, woken=0))
    assert found.claim
    assert await records.write_intent(found.claim, {"step": "call:1"}, Usage()) == "cancelled"
    assert await records.park(found.claim, State.SNOOZED, delay=0, usage=Usage()) == State.CANCELLED
    assert await state(redis, draft) == State.CANCELLED
    assert not await redis.get(keys.revoked(draft.id))
    assert [row[:4] for row in await audited(database)] == [("flower", "cancel", "job", draft.id)]


async def test_without_a_database_a_revoked_job_is_cancelled_all_the_same(
    redis: Redis, valkey_url: str
) -> None:
    draft = await queued(redis)
    away = Settings.load(
        env="test", redis_url=valkey_url, database_url="postgresql://a:b@127.0.0.1:9/none"
    )
    await revocations(redis, away).revoke([draft.id])
    assert await state(redis, draft) == State.CANCELLED
