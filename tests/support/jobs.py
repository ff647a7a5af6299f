"""Jobs as records, their places in Redis, and their wake-ups."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft, Wakeup
from dingrelay_tasks import MessageSend
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.store.records import Claim, Records, RedisTime
from dingrelay_workers.store.wakeup import ReceivedWakeup


def message(*users: str, text: str = "你好", **fields: Any) -> MessageSend:
    """A message of this text to these people; to u1 if none is given."""
    content = {"msgtype": "text", "text": {"content": text}}
    return MessageSend.parse({"to": {"users": users or ["u1"]}, "message": content} | fields)


def a_draft(**fields: Any) -> Draft:
    return record.draft(message(**fields))


def ahead(**by: float) -> str:
    """The time from now by so many hours or days, as a request has it."""
    return (datetime.now(UTC) + timedelta(**by)).isoformat()


def a_wakeup(draft: Draft, *, woken: int = 1, nonce: str = "") -> ReceivedWakeup:
    return ReceivedWakeup(
        id=draft.id,
        kind=KINDS[draft.kind],
        job=draft.job,
        queue=draft.queue,
        woken=woken,
        nonce=nonce or uuid.uuid4().hex,
    )


def a_claim(**fields: Any) -> Claim:
    """A worker's claim of a message that it runs for the first time."""
    words = {"nonce": "n", "app": "default", "lane": "normal", "sender": "", "parent": ""}
    numbers = dict.fromkeys(("attempts", "throttles", "crashes", "waiting", "created"), 0)
    plain: dict[str, Any] = {"id": "j", "kind": "message-send", "fence": 1, **words, **numbers}
    plain |= {"payload": {}, "steps": {}, "expires": None, "intent": None, "time": RedisTime(0)}
    return Claim(**plain | fields)


async def enqueue(redis: Redis, draft: Draft) -> record.Enqueued:
    answer = await scripts.run_async(redis, record.enqueue(draft))
    return record.enqueued(draft, answer)


async def queued(redis: Redis, **fields: Any) -> Draft:
    """A job that is accepted."""
    draft = a_draft(**fields)
    await enqueue(redis, draft)
    return draft


async def several(redis: Redis, count: int, **fields: Any) -> list[Draft]:
    """So many jobs that are accepted."""
    return [await queued(redis, **fields) for _ in range(count)]


async def running(redis: Redis, records: Records, **fields: Any) -> tuple[Draft, Claim]:
    """A job that a worker has claimed, and its claim."""
    draft = await queued(redis, **fields)
    return draft, await claimed(records, draft)


async def cancel(redis: Redis, job_id: str) -> bytes:
    """Cancel a job: the state that it has then."""
    call = record.cancel(job_id, record_ttl_ms=60_000, dead_ttl_ms=60_000)
    return await scripts.run_async(redis, call)


async def claimed(records: Records, draft: Draft, *, woken: int = 1) -> Claim:
    verdict, claim, _ = await records.claim(a_wakeup(draft, woken=woken))
    assert claim is not None, verdict
    return claim


async def state(redis: Redis, draft: Draft) -> str:
    return ((await redis.hget(keys.job(draft.id), "state")) or b"none").decode()


async def places(redis: Redis, draft: Draft) -> dict[str, float]:
    """The places in which the job is found, with its score there."""
    names = {
        "schedule": keys.SCHEDULE,
        "woken": keys.woken(draft.queue),
        "running": keys.RUNNING,
    }
    scores = {name: await redis.zscore(key, draft.id) for name, key in names.items()}
    return {name: score for name, score in scores.items() if score is not None}


async def server_time(redis: Redis) -> int:
    """Redis's clock, in ms."""
    seconds, micros = await redis.time()
    return seconds * 1000 + micros // 1000


async def run_out(redis: Redis, draft: Draft) -> None:
    """Let the job's lease run out now."""
    past = await server_time(redis) - 1
    await redis.hset(keys.job(draft.id), mapping={"lease": past, "woken": past - 30_000})
    await redis.zadd(keys.RUNNING, {draft.id: past})


async def woken_ago(redis: Redis, draft: Draft, milliseconds: int) -> int:
    """Backdate the wake-up of a queued job; returns its time."""
    then = await server_time(redis) - milliseconds
    await redis.hset(keys.job(draft.id), mapping={"woken": then, "due": then})
    await redis.zadd(keys.woken(draft.queue), {draft.id: then})
    return then


def received(wakeup: Wakeup) -> ReceivedWakeup:
    """A published wake-up, with a nonce of its own each time."""
    return ReceivedWakeup(
        id=wakeup.id,
        kind=KINDS[wakeup.kind],
        job={"app": wakeup.app, "lane": wakeup.lane},
        queue=wakeup.queue,
        woken=wakeup.at,
        nonce=uuid.uuid4().hex,
    )


class Published:
    """Stands for a `Publisher`, and keeps what would be published."""

    def __init__(self) -> None:
        self.wakeups: list[Wakeup] = []

    def publish(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        self.wakeups += wakeups
        return []

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        return self.publish(wakeups)

    async def aclose(self) -> None:
        pass

    def close(self) -> None:
        pass
