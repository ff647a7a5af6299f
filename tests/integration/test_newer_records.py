"""Records and wake-ups of a release to come: left to its workers, and never lost."""

import asyncio
import uuid

import pytest
from redis.asyncio import Redis

from dingrelay_producers import Client, UnreadableRecord
from dingrelay_producers.publisher import FORMAT_HEADER, WAKEUP_FORMAT, WOKEN_HEADER
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import RECORD_FORMAT
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.limiter.slot import Turns
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store.records import Records
from dingrelay_workers.store.wakeup import ReceivedWakeup
from support.jobs import (
    a_draft,
    a_wakeup,
    claimed,
    places,
    queued,
    run_out,
    running,
    server_time,
    state,
)

NEXT = RECORD_FORMAT + 1


async def written_by_the_next(redis: Redis) -> Draft:
    draft = await queued(redis)
    await redis.hset(keys.job(draft.id), "v", NEXT)
    return draft


async def due_now(redis: Redis, draft: Draft) -> None:
    """Make a waiting job due."""
    past = await server_time(redis) - 1
    await redis.hset(keys.job(draft.id), mapping={"due": past, "woken": 0})
    await redis.zadd(keys.SCHEDULE, {draft.id: past})


async def woken(schedule: Schedule) -> list[str]:
    batch = await schedule.take_due("w1", lease=5, most=100)
    return [wakeup.id for wakeup in batch.wakeups]


async def test_a_record_of_an_older_release_is_run(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    assert await redis.hget(keys.job(draft.id), "v") == str(RECORD_FORMAT).encode()
    await redis.hdel(keys.job(draft.id), "v")
    assert (await claimed(records, draft)).id == draft.id


async def test_a_newer_job_backs_off(redis: Redis, records: Records, schedule: Schedule) -> None:
    draft = await written_by_the_next(redis)
    pauses: list[float] = []
    for _ in range(9):
        assert (await records.claim(a_wakeup(draft))).verdict == "newer"
        assert await state(redis, draft) == "queued"
        pauses.append((await places(redis, draft))["schedule"] - await server_time(redis))
        await due_now(redis, draft)
        assert await woken(schedule) == [draft.id]
        assert await places(redis, draft) != {}
        # As if it had been published.
        await redis.delete(keys.UNPUBLISHED)
    assert 0 < pauses[0] <= 1_000 < pauses[2] < pauses[5] <= pauses[8] <= 60_000
    # A worker that knows it runs it, and forgets how often it was left.
    await redis.hset(keys.job(draft.id), "v", RECORD_FORMAT)
    await claimed(records, draft)
    assert not await redis.hexists(keys.job(draft.id), "left")


async def test_a_repeated_wakeup_does_not_delay_it(redis: Redis, records: Records) -> None:
    draft = await written_by_the_next(redis)
    await records.claim(a_wakeup(draft))
    where = await places(redis, draft)
    assert (await records.claim(a_wakeup(draft))).verdict == "newer"
    assert await places(redis, draft) == where


async def test_a_lost_newer_job_returns(redis: Redis, records: Records, schedule: Schedule) -> None:
    draft, _ = await running(redis, records)
    await redis.hset(keys.job(draft.id), "v", NEXT)
    await run_out(redis, draft)
    assert await woken(schedule) == [draft.id]
    assert (await records.claim(a_wakeup(draft))).verdict == "newer"
    assert await state(redis, draft) == "running"
    assert (await places(redis, draft)).keys() == {"running"}


async def test_no_batch_and_no_turn_takes_a_newer_job_along(redis: Redis, records: Records) -> None:
    new, old = await written_by_the_next(redis), await queued(redis)
    batch = await records.claim_batch(old.batch_key, nonce="n", room=100, lane="normal")
    assert [claim.id for claim in batch[0]] == [old.id]
    assert await redis.zscore(old.batch_key, new.id) is not None

    turns = Turns("default", "message.send", "normal")
    kind_to_come = await queued(redis)
    for draft in (new, kind_to_come):
        fields = {"state": "snoozed", "turn": turns.in_turn}
        await redis.hset(keys.job(draft.id), mapping=fields)
        await redis.zadd(turns.in_turn, {draft.id: 1})
    await redis.pexpire(turns.in_turn, 60_000)
    await redis.hset(keys.job(kind_to_come.id), "kind", "poll-create")
    assert await records.claim_late(turns, new.queue, nonce="n", most=9, late=0) == []
    await redis.hset(keys.job(new.id), "v", RECORD_FORMAT)
    found = await records.claim_late(turns, new.queue, nonce="n", most=9, late=0)
    assert [claim.id for claim in found] == [new.id]


@pytest.mark.parametrize("change", ["state", "summary"])
async def test_unknown_entries_stay(redis: Redis, schedule: Schedule, change: str) -> None:
    draft, damaged = await written_by_the_next(redis), await queued(redis)
    for each in (draft, damaged):
        await redis.hset(keys.job(each.id), "state", "held")
        if change == "summary":
            await redis.hdel(keys.job(each.id), change)
        await due_now(redis, each)
    assert await woken(schedule) == []
    assert (await places(redis, draft))["schedule"] > await server_time(redis)
    assert "schedule" not in await places(redis, damaged)
    await redis.hset(keys.job(draft.id), mapping={"state": "queued", "summary": "to one"})
    await due_now(redis, draft)
    assert await woken(schedule) == [draft.id]


async def test_the_error_asks_to_upgrade(redis: Redis, settings: Settings) -> None:
    draft = await written_by_the_next(redis)
    error = f"job {draft.id}: v in its record is more than {RECORD_FORMAT}.* newer release"
    before = await redis.hgetall(keys.job(draft.id))

    def ask() -> None:
        with Client(settings) as client:
            assert client.status(draft.id).state == "queued"
            for change in (client.cancel, client.requeue):
                with pytest.raises(UnreadableRecord, match=error):
                    change(draft.id)

    await asyncio.to_thread(ask)
    assert await redis.hgetall(keys.job(draft.id)) == before
    await redis.hset(keys.job(draft.id), "state", "unknown")

    def resolve() -> None:
        with Client(settings) as client, pytest.raises(UnreadableRecord, match=error):
            client.resolve(draft.id, sent=True)

    await asyncio.to_thread(resolve)
    assert await state(redis, draft) == "unknown"

    def discard() -> None:
        with Client(settings) as client:
            with pytest.raises(UnreadableRecord, match=error):
                client.discard(draft.id)
            assert client.discard_all([draft.id]) == []

    await asyncio.to_thread(discard)
    assert await run_async(redis, record.discard(draft.id)) == 0
    assert await state(redis, draft) == "unknown"


def received(draft: Draft, **headers: object) -> ReceivedWakeup:
    request = {"id": draft.id, "args": [], "kwargs": {"job": {}}, **headers}
    return ReceivedWakeup.from_request(KINDS[draft.kind], request)


async def test_a_newer_wakeup_says_which_job_to_look_at(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    newer = {FORMAT_HEADER: WAKEUP_FORMAT + 1, WOKEN_HEADER: {"ms": 1}}
    assert (await records.claim(received(draft, **newer))).verdict == "claimed"
    # One that outlives its record makes no job of what it carries.
    gone = a_draft(idempotency_key=uuid.uuid4().hex)
    assert (await records.claim(received(gone, **newer))).verdict == "ended"
    assert await state(redis, gone) == "none"
