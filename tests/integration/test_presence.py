"""A worker that vanishes lets go of its jobs; one that lives never loses any."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_workers.maintenance.presence import HELD, Presence, vanished
from dingrelay_workers.maintenance.presence_thread import PresenceThread
from dingrelay_workers.maintenance.scheduler import DueBatch, Schedule
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.records import Records, Usage
from support.jobs import a_wakeup, claimed, places, queued, run_out, running, server_time, several
from support.workers import run_flow

TIMEOUT = 0.6
GONE = "host.2:1:b"


@pytest.fixture
def gone(redis: Redis, settings: Settings) -> Records:
    """Records of a worker that vanishes."""
    return Records(redis, settings, worker=GONE)


async def sign(redis: Redis, worker: str, value: str) -> None:
    """Note a worker's sign of life."""
    await redis.hset(keys.PRESENCE, worker, value)
    await redis.pexpire(keys.PRESENCE, 60_000)


async def counts_as_gone(redis: Redis, worker: str) -> None:
    async def let_go() -> bool:
        return not await redis.hexists(keys.PRESENCE, worker)

    await wait_until_async(let_go, what="it counts as gone")


@pytest.fixture
async def watcher(settings: Settings) -> AsyncIterator[PresenceThread]:
    """A worker that watches the others."""
    presence = Presence(timeout=TIMEOUT, worker="watcher:1:a")
    async with PresenceThread(settings, presence) as thread:
        yield thread


@pytest.mark.usefixtures("watcher")
async def test_a_vanished_workers_jobs_are_woken(
    redis: Redis, settings: Settings, gone: Records, schedule: Schedule
) -> None:
    lives = Records(redis, settings, worker=f"{GONE}b")
    taken, kept = await several(redis, 2)
    lost, other = await claimed(gone, taken), await claimed(lives, kept)
    await sign(redis, GONE, f"5 {TIMEOUT}")
    await counts_as_gone(redis, GONE)
    due = await schedule.take_due("w", lease=60, most=10)
    assert [wakeup.id for wakeup in due.wakeups] == [taken.id]
    assert list(await places(redis, kept)) == ["running"]
    heir = await claimed(lives, taken)
    assert await gone.heartbeat([lost]) == {lost.nonce}
    assert await lives.heartbeat([heir, other]) == set()
    assert await lives.settle(heir, State.DONE, usage=Usage(), result={})
    assert await redis.hgetall(keys.PRESENCE) != {}


async def test_a_vanished_workers_wakeups_are_published(
    redis: Redis, settings: Settings, schedule: Schedule
) -> None:
    """It took them from the broker and claimed none: one of a new job, one of another's orphan."""
    orphan, _ = await running(redis, Records(redis, settings, worker="host.1:1:a"))
    await run_out(redis, orphan)
    await confirm_published(schedule, await schedule.take_due("w", lease=60, most=10))
    assert list(await places(redis, orphan)) == ["woken"]
    await several(redis, HELD + 1)
    await sign(redis, GONE, f"5 {TIMEOUT}")
    await run_flow(redis, Presence(worker="watcher:1:e").end_leases(GONE, f"5 {TIMEOUT}"))
    due = await schedule.take_due("w", lease=60, most=4 * HELD)
    woken = {wakeup.id for wakeup in due.wakeups}
    assert len(due.wakeups) == len(woken) == HELD, "what it cannot have held stays as it is"
    assert orphan.id in woken
    await confirm_published(schedule, due)
    assert (await schedule.take_due("w", lease=60, most=4 * HELD)).wakeups == []


async def test_a_clock_step_does_not_delay_the_wakeups(redis: Redis, schedule: Schedule) -> None:
    """A machine whose clock was ahead starts over."""
    draft = await queued(redis)
    ahead = await server_time(redis) + 3_600_000
    await redis.hset(keys.job(draft.id), mapping={"due": ahead, "woken": ahead})
    await redis.zadd(keys.woken(draft.queue), {draft.id: ahead})
    await sign(redis, GONE, "5 1")
    await run_async(redis, vanished(GONE, "5 1"))
    due = await schedule.take_due("w", lease=60, most=10)
    assert [wakeup.id for wakeup in due.wakeups] == [draft.id]


async def confirm_published(schedule: Schedule, due: DueBatch) -> None:
    """Say that a batch was published, and look at nothing else."""
    await schedule.take_due("w", lease=60, most=0, published=due.batch)


@pytest.mark.parametrize(
    ("field", "value"), [("owner", None), ("lease", None), ("state", None), ("lease", "soon")]
)
async def test_a_record_that_was_damaged_keeps_no_other_lease_from_being_ended(
    redis: Redis, settings: Settings, gone: Records, field: str, value: str | None
) -> None:
    other = Records(redis, settings, worker="host.4:1:d")
    damaged, _ = await running(redis, gone if value is None else other)
    sound, _ = await running(redis, gone)
    await redis.hdel(keys.job(damaged.id), field)
    if value is not None:
        await redis.hset(keys.job(damaged.id), field, value)
    await redis.zadd(keys.woken(damaged.queue), {damaged.id: 1})
    await redis.zadd(keys.RUNNING, {damaged.id: -1}, incr=True)
    await sign(redis, GONE, "5 1")
    await run_async(redis, vanished(GONE, "5 1"))
    heir = Records(redis, settings, worker="host.3:1:c")
    assert (await claimed(heir, sound)).id == sound.id


async def test_a_claim_hides_no_ended_lease(
    redis: Redis, settings: Settings, gone: Records
) -> None:
    heir = Records(redis, settings, worker="host.3:1:c")
    drafts = [(await running(redis, gone))[0] for _ in range(9)]
    await sign(redis, GONE, "5 1")
    start, ended = await run_async(redis, vanished(GONE, "5 1", 0, 2))
    while start:
        for draft in drafts:
            await heir.claim(a_wakeup(draft))
        start, leases = await run_async(redis, vanished(GONE, "5 1", start, 2))
        ended += leases
    assert ended == len(drafts)


async def test_leases_of_one_millisecond_all_end(
    redis: Redis, settings: Settings, gone: Records
) -> None:
    other = Records(redis, settings, worker="host.3:1:c")
    drafts = sorted(await several(redis, 6), key=lambda draft: draft.id)
    for draft in drafts:
        await claimed(gone if draft is drafts[-1] else other, draft)
    ends = await redis.zscore(keys.RUNNING, drafts[0].id)
    assert ends is not None
    await redis.zadd(keys.RUNNING, {draft.id: ends for draft in drafts})
    await sign(redis, GONE, "5 1")
    start, ended = await run_async(redis, vanished(GONE, "5 1", 0, 2))
    while start:
        start, leases = await run_async(redis, vanished(GONE, "5 1", start, 2))
        ended += leases
    assert ended == 1


async def test_sleepers_keep_their_job(
    redis: Redis, settings: Settings, watcher: PresenceThread
) -> None:
    asleep = Records(redis, settings, worker="asleep:1:c")
    draft, claim = await running(redis, asleep)
    await sign(redis, "asleep:1:c", f"5 {TIMEOUT}")
    await counts_as_gone(redis, "asleep:1:c")
    assert await asleep.heartbeat([claim]) == set()
    verdict, _, _ = await Records(redis, settings, worker="x").claim(a_wakeup(draft))
    assert verdict == "busy"
    assert await asleep.settle(claim, State.DONE, usage=Usage(), result={})
    assert watcher


async def test_a_late_sign_saves_the_worker(redis: Redis, settings: Settings) -> None:
    records = Records(redis, settings, worker="late:1:d")
    draft, _ = await running(redis, records)
    await sign(redis, "late:1:d", "6 1")
    # What this one knows of the other is a sign that is not the latest any more.
    await run_flow(redis, Presence(worker="watcher:1:e").end_leases("late:1:d", "5 1"))
    assert await redis.hget(keys.PRESENCE, "late:1:d") == b"6 1"
    verdict, _, _ = await records.claim(a_wakeup(draft))
    assert verdict == "busy"


async def test_a_wrong_entry_blocks_no_sign(redis: Redis) -> None:
    await redis.hset(keys.PRESENCE, mapping={b"\xff": b"\xfe", "odd": "5 nan", "none": ""})
    await redis.pexpire(keys.PRESENCE, 60_000)
    presence = Presence(timeout=TIMEOUT, worker="lives:1:g")
    for beat in (b"1", b"2"):
        await run_flow(redis, presence.beat())
        sign = await redis.hget(keys.PRESENCE, "lives:1:g")
        assert sign.startswith(beat)
    assert await redis.pttl(keys.PRESENCE) > 60_000


async def test_a_stopped_worker_is_not_awaited(redis: Redis, settings: Settings) -> None:
    presence = Presence(timeout=TIMEOUT, worker="stops:1:f")

    async def known() -> bool:
        return bool(await redis.hexists(keys.PRESENCE, "stops:1:f"))

    async with PresenceThread(settings, presence):
        await wait_until_async(known, what="it gave a sign")
    assert not await known()


async def test_only_what_is_consumed_counts_as_served(valkey_url: str, redis: Redis) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, lease=1)
    queues = ("dingrelay.normal", "dingrelay.urgent")
    consumed = list(queues)

    async def served() -> set[str]:
        return {queue for queue in queues if await redis.exists(keys.alive(queue))}

    async def all_served() -> bool:
        return await served() == set(queues)

    async def one_served() -> bool:
        return await served() == {"dingrelay.normal"}

    resources = Resources(
        settings, Publisher(settings), queues=queues, consumed=lambda: tuple(consumed)
    )
    async with resources:
        await wait_until_async(all_served, what="both are served")
        assert await redis.get(keys.alive("dingrelay.normal")) == b"0"

        async def settled() -> bool:
            return await redis.get(keys.alive("dingrelay.normal")) == b"1"

        await wait_until_async(settled, what="it has had time to start what waited")
        consumed.remove("dingrelay.urgent")
        await wait_until_async(one_served, what="one is served no more")
