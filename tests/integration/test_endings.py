"""Each end of a job is noted once by the script that makes it, and read at least once."""

import hashlib
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.states import State
from dingrelay_workers.outbox.endings import Ending, Endings
from dingrelay_workers.store import transitions
from dingrelay_workers.store.records import Records, Usage
from support.jobs import claimed, enqueue, queued, running


async def end(redis: Redis, records: Records, state: State = State.DONE, **fields: object) -> str:
    draft = await queued(redis, **fields)
    assert await records.settle(await claimed(records, draft), state, usage=Usage())
    return draft.id


async def all_of(reader: Endings) -> list[Ending]:
    """All entries of a reader that acknowledges each page."""
    found: list[Ending] = []
    while (page := await reader.read(3)).last:
        found += page.endings
        assert await reader.pass_(page)
    return found


async def several(redis: Redis, records: Records, count: int) -> list[str]:
    """So many jobs end."""
    return [await end(redis, records) for _ in range(count)]


async def ids_of(reader: Endings) -> list[str]:
    return [ending.id for ending in await all_of(reader)]


@pytest.fixture
async def readers(redis: Redis) -> tuple[Endings, Endings]:
    """Two that are known before any job ends."""
    both = Endings(redis, "slow"), Endings(redis, "fast")
    for reader in both:
        assert (await reader.read(1)).last is None
    return both


@pytest.mark.parametrize("state", [state for state in State if state.ended])
async def test_an_ending_names_its_sender(redis: Redis, records: Records, state: State) -> None:
    job_id = await end(redis, records, state, sender="crm")
    (ending,) = await all_of(Endings(redis, "a"))
    settled = int(await redis.hget(keys.job(job_id), "settled") or 0)
    assert ending == Ending(job_id, "message-send", "default", "crm", state, settled)


async def test_an_outcome_written_twice_is_one_ending(redis: Redis, records: Records) -> None:
    _, claim = await running(redis, records)
    for _ in range(2):
        assert await records.settle(claim, State.DONE, usage=Usage())
    assert len(await all_of(Endings(redis, "a"))) == 1


async def test_each_end_is_reported(redis: Redis, records: Records, settings: Settings) -> None:
    ttl = {"record_ttl_ms": 1000, "dead_ttl_ms": 1000}
    waiting = await queued(redis)
    await scripts.run_async(redis, record.cancel(waiting.id, **ttl))
    runs, claim = await running(redis, records)
    await scripts.run_async(redis, record.cancel(runs.id, **ttl))
    assert await records.park(claim, State.SNOOZED, delay=1, usage=Usage()) == State.CANCELLED
    lost = await end(redis, records, State.UNKNOWN)
    resolution = Resolution.of(lost, "message-send", instance=None, not_created=False, sent=True)
    await scripts.run_async(redis, resolution.call(settings, by="ops"))
    ended = [(ending.id, ending.state) for ending in await all_of(Endings(redis, "a"))]
    assert ended[:2] == [(waiting.id, "cancelled"), (runs.id, "cancelled")]
    assert ended[2:] == [(lost, "unknown"), (lost, "done")]


async def test_a_job_that_goes_on_is_no_ending(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    await records.park(await claimed(records, draft), State.SNOOZED, delay=9, usage=Usage())
    lost = await end(redis, records, State.UNKNOWN)
    await scripts.run_async(redis, record.requeue(lost))
    assert await ids_of(Endings(redis, "a")) == [lost]


async def test_chunks_are_reported_to_their_dispatcher_only(redis: Redis, records: Records) -> None:
    chunk = Draft(
        id="c", kind="campaign-chunk", app="default", lane="bulk", queue="dingrelay.bulk",
        job={}, summary="",
    )  # fmt: skip
    await enqueue(redis, chunk)
    await records.settle(await claimed(records, chunk), State.DONE, usage=Usage())
    assert not await redis.exists(keys.ENDINGS)


async def test_endings_that_are_not_passed_come_again(redis: Redis, records: Records) -> None:
    ids = await several(redis, records, 3)
    reader = Endings(redis, "a")
    page = await reader.read(2)
    assert [ending.id for ending in page.endings] == ids[:2]
    assert [ending.id for ending in (await Endings(redis, "a").read(2)).endings] == ids[:2]
    assert await reader.pass_(page)
    assert await ids_of(reader) == ids[2:]


async def test_a_late_reader_takes_nothing_back(redis: Redis, records: Records) -> None:
    await several(redis, records, 4)
    old, new = Endings(redis, "a"), Endings(redis, "a")
    stale = await old.read(1)
    assert len(await all_of(new)) == 4
    assert not await old.pass_(stale)
    assert (await old.read(9)).last is None


async def test_an_awaited_reader_misses_nothing(redis: Redis, records: Records) -> None:
    ids = await several(redis, records, 4)
    first = Endings(redis, "a")
    assert await first.pass_(await first.read(2), awaited=["late"])
    assert await first.pass_(await first.read(2), awaited=["late"])
    late = Endings(redis, "late")
    page = await late.read(9)
    assert ([ending.id for ending in page.endings], page.missed) == (ids, 0)
    assert await late.pass_(page)
    assert await redis.xlen(keys.ENDINGS) <= 1


async def test_readers_do_not_hinder_each_other(redis: Redis, records: Records) -> None:
    ids = await several(redis, records, 5)
    slow, fast = Endings(redis, "slow"), Endings(redis, "fast")
    first = await slow.read(1)
    await slow.pass_(first)
    assert await ids_of(fast) == ids
    assert await ids_of(slow) == ids[1:]
    # What both have read takes no memory any more.
    assert await redis.xlen(keys.ENDINGS) <= 1


async def test_a_new_reader_misses_nothing(redis: Redis, records: Records) -> None:
    slow, fast = Endings(redis, "slow"), Endings(redis, "fast")
    assert (await slow.read(9)).last is None
    ids = await several(redis, records, 5)
    assert await ids_of(fast) == ids
    assert await ids_of(slow) == ids
    assert 0 < await redis.pttl(keys.ENDINGS_READ) <= keys.ENDINGS_TTL_MS


@pytest.mark.parametrize("read", [5, 2], ids=["all read all", "one is behind"])
async def test_readers_of_a_lost_stream_miss_nothing(
    redis: Redis, records: Records, readers: tuple[Endings, Endings], read: int
) -> None:
    slow, fast = readers
    await several(redis, records, 5)
    assert len(await all_of(fast)) == 5
    assert await slow.pass_(await slow.read(read))
    await redis.delete(keys.ENDINGS)
    ids = await several(redis, records, 10)
    order = (fast, slow) if read == 5 else (slow, fast)
    for reader in order:
        assert await ids_of(reader) == ids
    assert read < 5 or await redis.xlen(keys.ENDINGS) <= 1


async def test_unread_endings_beyond_the_bound_count_once(redis: Redis, records: Records) -> None:
    reader = Endings(redis, "a")
    await end(redis, records)
    assert len(await all_of(reader)) == 1
    ids = await several(redis, records, 5)
    await redis.xtrim(keys.ENDINGS, maxlen=2, approximate=False)
    page = await reader.read(9)
    assert (page.missed, [ending.id for ending in page.endings]) == (3, ids[3:])
    await reader.pass_(page)
    ids.append(await end(redis, records))
    page = await reader.read(9)
    assert (page.missed, [ending.id for ending in page.endings]) == (0, ids[5:])


async def test_a_lost_stream_is_read_from_its_start(redis: Redis, records: Records) -> None:
    reader = Endings(redis, "a")
    await several(redis, records, 5)
    assert len(await all_of(reader)) == 5
    await redis.delete(keys.ENDINGS)
    ids = await several(redis, records, 3)
    page = await reader.read(9)
    assert (page.missed, [ending.id for ending in page.endings]) == (0, ids)
    assert await reader.pass_(page)
    assert await all_of(reader) == []


async def test_the_stream_is_bounded(
    redis: Redis, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = transitions.settle.script
    body = settle.body.replace(f"MOST_ENDINGS = {keys.MOST_ENDINGS}", "MOST_ENDINGS = 100")
    sha = hashlib.sha1(body.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(transitions.settle, "script", replace(settle, body=body, sha=sha))
    await several(redis, records, 500)
    # Redis trims whole nodes of a hundred entries.
    assert 100 <= await redis.xlen(keys.ENDINGS) <= 200
    assert 0 < await redis.pttl(keys.ENDINGS) <= keys.ENDINGS_TTL_MS
