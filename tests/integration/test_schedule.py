"""The scheduler's view of the job records: what is due, what was lost, and how much at once."""

from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_workers.maintenance.scheduler import DueBatch, Schedule
from dingrelay_workers.store.records import Records, Usage
from support.jobs import (
    a_draft,
    a_wakeup,
    ahead,
    claimed,
    enqueue,
    places,
    queued,
    run_out,
    running,
    server_time,
    several,
    state,
    woken_ago,
)

GRACE = 30
MOST = 40


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.load(env="test", redis_url=valkey_url, lease=GRACE)


async def woken_now(schedule: Schedule, *, published: bool = True) -> list[str]:
    """The jobs that one look wakes, and unless it fails their wake-ups are published."""
    batch = await schedule.take_due("w", lease=60, most=MOST)
    if published:
        await confirm_published(schedule, batch)
    return [wakeup.id for wakeup in batch.wakeups]


async def confirm_published(schedule: Schedule, batch: DueBatch) -> None:
    """Say that a batch was published, and look at nothing else."""
    await schedule.take_due("w", lease=60, most=0, published=batch.batch)


async def due(redis: Redis, records: Records, count: int, **fields: Any) -> list[Draft]:
    """Jobs that wait on the schedule and are due."""
    drafts = await several(redis, count, **fields)
    for draft in drafts:
        await records.park(await claimed(records, draft), State.RETRYING, delay=0, usage=Usage())
    return drafts


async def progress(redis: Redis, draft: Draft, *, woken: int, ago: int) -> None:
    """Record that a wake-up which was published at `woken` was started `ago` ms ago."""
    slot = (await server_time(redis) - ago) // (GRACE * 1000 // 6)
    entry: dict[Any, Any] = {
        f"s{slot % keys.PROGRESS_SLOTS}": f"{slot} {woken}",
        "started": slot * GRACE * 1000 // 6,
    }
    await redis.hset(keys.progress(draft.queue), mapping=entry)
    await redis.expire(keys.progress(draft.queue), 60)


async def test_one_worker_is_the_scheduler_at_a_time(schedule: Schedule) -> None:
    assert await schedule.take_due("a", lease=5, most=10)
    assert not await schedule.take_due("b", lease=5, most=10)
    await schedule.release("b")
    assert not await schedule.take_due("b", lease=5, most=10)
    await schedule.release("a")
    assert await schedule.take_due("b", lease=5, most=10)


async def test_a_scheduler_from_before_a_clock_step(redis: Redis, schedule: Schedule) -> None:
    await redis.set(keys.SCHEDULER, "gone", px=3_600_000)
    assert await schedule.take_due("w", lease=5, most=10)
    assert 0 < await redis.pttl(keys.SCHEDULER) <= 5000


async def test_a_clock_step_ends_waits(redis: Redis, records: Records, schedule: Schedule) -> None:
    hour = 3_600_000
    await schedule.take_due("w", lease=5, most=10)
    snoozed, claim = await running(redis, records)
    later = await queued(redis, send_at=ahead(days=1))
    parked = await records.park(claim, State.SNOOZED, delay=20, usage=Usage())
    assert parked == State.SNOOZED
    now = await server_time(redis)
    # All that was noted then is an hour ahead.
    await redis.hincrby(keys.job(snoozed.id), "due", hour)
    await redis.zincrby(keys.SCHEDULE, hour, snoozed.id)
    await redis.pexpire(keys.SCHEDULER, hour + 5000)

    named = await places(redis, later)
    assert not (await schedule.take_due("w", lease=5, most=10)).wakeups
    due = (await places(redis, snoozed))["schedule"]
    assert abs(due - now) < hour / 2
    assert int(await redis.hget(keys.job(snoozed.id), "due") or 0) == due
    assert await places(redis, later) == named
    await schedule.take_due("w", lease=5, most=10)
    assert (await places(redis, snoozed))["schedule"] == due, "once only"


async def test_due_jobs_are_woken_once(redis: Redis, records: Records, schedule: Schedule) -> None:
    (draft,) = await due(redis, records, 1)
    batch = await schedule.take_due("w", lease=5, most=10)
    assert [wakeup.id for wakeup in batch.wakeups] == [draft.id]
    assert await places(redis, draft) == {"woken": batch.wakeups[0].at}
    again = await schedule.take_due("w", lease=5, most=10, published=batch.batch)
    assert again.wakeups == []


async def test_due_jobs_share_commands(redis: Redis, records: Records, schedule: Schedule) -> None:
    drafts = await due(redis, records, MOST)
    before = (await redis.info("stats"))["total_commands_processed"]
    assert set(await woken_now(schedule, published=False)) == {draft.id for draft in drafts}
    spent = (await redis.info("stats"))["total_commands_processed"] - before
    assert spent <= 3 * MOST + 25


async def test_a_queue_lives_for_a_month_after_its_latest_wakeup(redis: Redis) -> None:
    place = keys.woken((await queued(redis)).queue)
    for name in (place, keys.QUEUES):
        assert await redis.pttl(name) > keys.JOB_MARGIN_MS
        await redis.pexpire(name, keys.JOB_MARGIN_MS + 60_000)
    await queued(redis)
    assert await redis.pttl(place) <= keys.JOB_MARGIN_MS + 60_000, "there is time enough"
    await redis.pexpire(place, keys.JOB_MARGIN_MS)
    await redis.delete(keys.QUEUES)
    latest = await queued(redis)
    assert await redis.pttl(place) > keys.JOB_MARGIN_MS + 60_000
    assert await redis.smembers(keys.QUEUES) == {latest.queue.encode()}
    assert await redis.pttl(keys.QUEUES) > keys.JOB_MARGIN_MS + 60_000


async def test_a_queue_is_known_again_once_it_was_empty(redis: Redis, schedule: Schedule) -> None:
    draft = await queued(redis)
    await redis.zrem(keys.woken(draft.queue), draft.id)
    await woken_now(schedule)
    assert not await redis.exists(keys.QUEUES)
    other = await queued(redis)
    assert await redis.smembers(keys.QUEUES) == {other.queue.encode()}


async def test_unpublished_wakeups(redis: Redis, records: Records, schedule: Schedule) -> None:
    settled, waits = await due(redis, records, 2)
    first = await schedule.take_due("w", lease=5, most=10)
    assert {wakeup.id for wakeup in first.wakeups} == {settled.id, waits.id}
    await records.settle(await claimed(records, settled), State.DONE, usage=Usage())
    # The scheduler died, or its answer was lost: another one goes on.
    await schedule.release("w")
    second = await schedule.take_due("x", lease=5, most=10)
    assert [wakeup.id for wakeup in second.wakeups] == [waits.id]
    third = await schedule.take_due("x", lease=5, most=10, published=second.batch)
    assert third.wakeups == []


async def test_a_lost_workers_job_wakes(redis: Redis, records: Records, schedule: Schedule) -> None:
    draft, _ = await running(redis, records)
    assert await woken_now(schedule) == []
    await run_out(redis, draft)
    assert await woken_now(schedule) == [draft.id]


@pytest.mark.parametrize(
    ("woken", "ago", "lost"),
    [(1, 40_000, True), (1, 20_000, False), (-1, 40_000, False)],
    ids=["overtaken", "overtaken just now", "in a long queue"],
)
async def test_only_an_overtaken_wakeup_is_lost(
    redis: Redis, schedule: Schedule, woken: int, ago: int, lost: bool
) -> None:
    draft, later = await several(redis, 2)
    then = await woken_ago(redis, draft, 60_000)
    await woken_ago(redis, later, 45_000)
    await progress(redis, draft, woken=then + woken, ago=ago)
    await redis.hset(keys.progress(draft.queue), "started", await server_time(redis))
    await redis.set(keys.alive(draft.queue), 1, px=60_000)
    assert await woken_now(schedule) == [draft.id] * lost
    assert await woken_now(schedule) == []
    assert lost or await places(redis, draft) == {"woken": then}


async def test_a_clock_step_loses_no_wakeup(redis: Redis, schedule: Schedule) -> None:
    draft = await queued(redis)
    hour_on = await server_time(redis) + 3_600_000
    await redis.hset(keys.progress(draft.queue), mapping={"passed": hour_on, "started": hour_on})
    await redis.expire(keys.progress(draft.queue), 60)
    assert await woken_now(schedule) == []
    assert set(await places(redis, draft)) == {"woken"}
    # Nor does it make one lost that was published since, and waits in a long queue.
    await woken_ago(redis, draft, 60_000)
    assert await woken_now(schedule) == []


async def test_a_clock_step_does_not_stop_probes(redis: Redis, schedule: Schedule) -> None:
    draft, *_ = await a_silent_queue(redis, 1)
    hour_on = await server_time(redis) + 3_600_000
    noted: dict[Any, Any] = {"started": hour_on, "probed": hour_on, "probes": 3}
    await redis.hset(keys.progress(draft.queue), mapping=noted)
    await redis.expire(keys.progress(draft.queue), 60)
    assert await woken_now(schedule) == [draft.id]


async def test_the_progress_of_a_queue_takes_a_few_fields(redis: Redis, valkey_url: str) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, lease=0.006)
    records = Records(redis, settings)
    latest, draft = 0, a_draft()
    # A clock that has stepped back since noted this.
    await redis.hset(keys.progress(draft.queue), "passed", await server_time(redis) + 3_600_000)
    for _ in range(60):
        draft = a_draft()
        answer = await enqueue(redis, draft)
        assert answer.wakeup
        latest = answer.wakeup.at
        await records.claim(a_wakeup(draft, woken=latest))
    fields = await redis.hgetall(keys.progress(draft.queue))
    assert len(fields) <= keys.PROGRESS_SLOTS + 2
    assert 0 < int(fields[b"passed"]) <= latest
    assert 0 < await redis.pttl(keys.progress(draft.queue)) <= keys.PROGRESS_TTL_MS


async def test_distant_jobs_hide_no_lost_wakeup(redis: Redis, schedule: Schedule) -> None:
    far = await server_time(redis) + 86_400_000
    fill = "for n = ARGV[2], ARGV[2] + 9999 do redis.call('ZADD', KEYS[1], ARGV[1], n) end"
    for start in range(0, 300_000, 10_000):
        await redis.eval(fill, 1, keys.SCHEDULE, far, start)
        await redis.expire(keys.SCHEDULE, 60)
    draft = await queued(redis, lane="urgent")
    then = await woken_ago(redis, draft, 60_000)
    assert await woken_now(schedule) == []
    await progress(redis, draft, woken=then + 1, ago=40_000)
    assert await woken_now(schedule) == [draft.id]
    await redis.unlink(keys.SCHEDULE)


async def a_silent_queue(redis: Redis, count: int, *, served: bool = True) -> list[Draft]:
    """Jobs that were woken long ago in a queue that starts nothing."""
    drafts = await several(redis, count)
    for number, draft in enumerate(drafts):
        await woken_ago(redis, draft, 60_000 - number)
    if served:
        await redis.set(keys.alive(drafts[0].queue), 1, px=60_000)
    return drafts


async def test_only_queues_of_old_workers_are_probed(redis: Redis, schedule: Schedule) -> None:
    first, *_ = await a_silent_queue(redis, 3, served=False)
    assert await woken_now(schedule) == [], "no worker serves it"
    await schedule.serve([first.queue], ttl=60, new=True)
    assert await woken_now(schedule) == []
    await schedule.serve([first.queue], ttl=60, new=False)
    await schedule.serve([first.queue], ttl=60, new=True)
    assert await woken_now(schedule) == [first.id]


async def test_a_stalled_queue_is_probed_and_bounded(redis: Redis, schedule: Schedule) -> None:
    first, *others = await a_silent_queue(redis, 30)
    assert await woken_now(schedule) == [first.id]
    woken = []
    for _ in range(20):  # graces that pass: the probe's time is moved into the past
        await redis.hincrby(keys.progress(first.queue), "probed", -GRACE * 1000)
        woken += await woken_now(schedule)
    assert len(woken) <= 4, "1, 2, 4, 8 … graces apart"
    assert set(woken) <= {draft.id for draft in (first, *others)}


async def test_wakeups_follow_the_probe(redis: Redis, records: Records, schedule: Schedule) -> None:
    first, *others = await a_silent_queue(redis, 4)
    assert await woken_now(schedule) == [first.id]
    (woken,) = (await places(redis, first)).values()
    await claimed(records, first, woken=int(woken))
    assert await woken_now(schedule) == []
    await redis.delete(keys.progress(first.queue))
    await progress(redis, first, woken=int(woken), ago=40_000)
    assert await woken_now(schedule) == [draft.id for draft in others]


async def test_a_job_that_nobody_serves_lives_on(redis: Redis, schedule: Schedule) -> None:
    (draft,) = await a_silent_queue(redis, 1, served=False)
    gone = await queued(redis)
    for each in (draft, gone):
        await woken_ago(redis, each, keys.JOB_MARGIN_MS * 3 // 4)
    await redis.delete(keys.job(gone.id))
    await redis.pexpire(keys.job(draft.id), keys.JOB_MARGIN_MS // 4)
    assert await woken_now(schedule) == []
    assert await redis.pttl(keys.job(draft.id)) > keys.JOB_MARGIN_MS * 0.99
    assert list(await places(redis, draft)) == ["woken"]
    assert await places(redis, gone) == {}


async def test_a_job_a_year_ahead_lives_until_then(redis: Redis) -> None:
    draft = await queued(redis, send_at=ahead(days=365))
    await queued(redis, send_at=ahead(days=65))
    year = 365 * 86_400_000
    for key in (keys.job(draft.id), keys.SCHEDULE):
        assert year < await redis.pttl(key) <= year + keys.JOB_MARGIN_MS + 86_400_000


async def test_a_look_is_bounded(redis: Redis, records: Records, schedule: Schedule) -> None:
    drafts = await due(redis, records, 2 * MOST)
    woken: list[str] = []
    for _ in range(4):
        batch = await schedule.take_due("w", lease=60, most=MOST)
        assert len(batch.wakeups) <= MOST
        woken += [wakeup.id for wakeup in batch.wakeups]
        await confirm_published(schedule, batch)
    assert sorted(woken) == sorted(draft.id for draft in drafts)


async def test_an_open_batch_goes_first(redis: Redis, records: Records, schedule: Schedule) -> None:
    await due(redis, records, 3 * MOST)
    first = await woken_now(schedule, published=False)
    assert len(first) == MOST
    for _ in range(3):
        assert await woken_now(schedule, published=False) == first
    name: Any = await redis.hget(keys.UNPUBLISHED, "name")
    assert name
    batch = await schedule.take_due("w", lease=60, most=MOST, published=name.decode())
    assert len(batch.wakeups) == MOST
    assert not {wakeup.id for wakeup in batch.wakeups} & set(first)


async def test_leases_are_not_starved(redis: Redis, records: Records, schedule: Schedule) -> None:
    draft, _ = await running(redis, records)
    await run_out(redis, draft)
    await due(redis, records, 2 * MOST)
    assert draft.id in await woken_now(schedule)


async def test_no_payload_in_a_wakeup(redis: Redis, records: Records, schedule: Schedule) -> None:
    text = {"msgtype": "text", "text": {"content": "x" * 4000}}
    (draft,) = await due(redis, records, 1, message=text)
    batch = await schedule.take_due("w", lease=60, most=MOST)
    assert "xxx" not in repr(batch.wakeups)
    assert [(wakeup.kind, wakeup.app, wakeup.lane) for wakeup in batch.wakeups] == [
        (draft.kind, draft.app, draft.lane)
    ]


async def test_old_entries_are_placed(redis: Redis, records: Records, schedule: Schedule) -> None:
    queued, running, ended = await several(redis, 3)
    claim = await claimed(records, running)
    await records.settle(await claimed(records, ended), State.DONE, usage=Usage(), result={})
    before = [await places(redis, draft) for draft in (queued, running)]
    await redis.delete(keys.RUNNING, keys.woken(queued.queue))
    await redis.zadd(keys.SCHEDULE, {draft.id: 1 for draft in (queued, running, ended)})
    assert await woken_now(schedule) == []
    assert [await places(redis, draft) for draft in (queued, running)] == before
    assert await places(redis, ended) == {}
    assert await state(redis, running) == "running"
    assert claim.id == running.id


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, None) for field in ("kind", "app", "lane", "queue", "summary", "woken", "due")),
        *((field, value) for field in ("woken", "due") for value in ("", "soon", "nan", "1e400")),
    ],
)
async def test_a_record_that_was_damaged_keeps_no_other_job_from_being_woken(
    redis: Redis, schedule: Schedule, field: str, value: str | None
) -> None:
    """A field was deleted, or written, perhaps of a record that had expired."""
    damaged, sound = await several(redis, 2)
    for draft in (damaged, sound):
        await redis.zrem(keys.woken(draft.queue), draft.id)
        await redis.hset(keys.job(draft.id), "woken", 0)
        await redis.zadd(keys.SCHEDULE, {draft.id: int(draft is sound)})
    await redis.pexpire(keys.SCHEDULE, 60_000)
    if value is None:
        await redis.hdel(keys.job(damaged.id), field)
    else:
        await redis.hset(keys.job(damaged.id), field, value)
    assert await woken_now(schedule) == [sound.id]
    assert await places(redis, damaged) == {}


async def test_the_scheduler_learns_whether_jobs_are_parked(
    redis: Redis, schedule: Schedule
) -> None:
    batch = await schedule.take_due("w", lease=5, most=10)
    assert batch is not None
    assert not batch.parked
    await redis.zadd(keys.LANES, {"default message.send normal": 1})
    await redis.pexpire(keys.LANES, keys.WAITING_TTL_MS)
    batch = await schedule.take_due("w", lease=5, most=10)
    assert batch is not None
    assert batch.parked
