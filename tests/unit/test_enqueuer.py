"""Requests of one gateway that share a round trip to Redis."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import record, scripts
from dingrelay_tasks import MessageSend

JOB = MessageSend.parse(
    {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": "你好"}}}
)


async def test_redis_known_away_fails_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    started, silent = asyncio.Event(), asyncio.Event()
    calls: list[int] = []

    async def away(redis: Redis, batch: list[Any]) -> list[Any]:
        calls.append(len(batch))
        started.set()
        await silent.wait()
        raise RedisConnectionError

    monkeypatch.setattr(scripts, "run_many_async", away)
    enqueuer = Enqueuer(Settings.load(env="sandbox"), Redis())
    first = asyncio.create_task(enqueuer.enqueue([record.draft(JOB)]))
    await started.wait()
    second = asyncio.create_task(enqueuer.enqueue([record.draft(JOB)]))
    await asyncio.sleep(0)
    silent.set()
    for task in (first, second):
        with pytest.raises(ServiceUnavailable):
            await task
    assert calls == [1], "the second was not asked for"
    await enqueuer.aclose()


async def test_jobs_sent_while_it_closes_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    started, answering = asyncio.Event(), asyncio.Event()
    published: list[str] = []

    async def slow(redis: Redis, batch: list[Any]) -> list[Any]:
        started.set()
        await answering.wait()
        return [[b"unpublished", 1] for _ in batch]

    async def publish(wakeups: list[record.Wakeup]) -> None:
        await asyncio.sleep(0.3)  # a broker takes its time
        published.extend(wakeup.id for wakeup in wakeups)

    monkeypatch.setattr(scripts, "run_many_async", slow)
    enqueuer = Enqueuer(Settings.load(env="sandbox"), Redis())
    monkeypatch.setattr(enqueuer._publisher, "publish_on_loop", publish)
    draft = record.draft(JOB)
    asking = asyncio.create_task(enqueuer.enqueue([draft]))
    await started.wait()
    closing = asyncio.create_task(enqueuer.aclose())
    await asyncio.sleep(0)
    answering.set()
    await asyncio.gather(asking, closing)
    assert published == [draft.id]
