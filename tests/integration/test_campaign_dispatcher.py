"""Each point at which a dispatcher can die, and each thing it can find afterwards."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from dingrelay_producers.errors import CampaignConflict, CampaignNotFound, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.states import State as JobState
from dingrelay_workers import duties
from dingrelay_workers.campaigns import removal
from dingrelay_workers.campaigns.chunks import Release
from dingrelay_workers.campaigns.dispatcher import Dispatcher
from dingrelay_workers.campaigns.models import CampaignRow, ReviewRow, State
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.campaigns.review import digest_of
from dingrelay_workers.database.database import Database
from dingrelay_workers.maintenance import leader as leaders
from dingrelay_workers.maintenance.leader import WORK, Leader, LeaderParts, Lease
from dingrelay_workers.metrics import CAMPAIGNS
from dingrelay_workers.store.records import Claim, Records, Usage
from support import campaigns, rows
from support.databases import on_sqlite
from support.jobs import received
from support.rows import change
from support.webhooks import subscribe, taken
from support.workers import lead_once

pytestmark = on_sqlite


NOON = datetime.now(UTC).replace(hour=4, minute=0)
"""Noon in Beijing."""

BAD = {"class": "permanent", "code": "1", "message": "bad", "hint": ""}


class Fleet:
    """Dispatchers on one database and Valkey, and the worker that runs what they publish."""

    def __init__(self, redis: Redis, database: Database, settings: Settings) -> None:
        self.redis = redis
        self.database = database
        self.settings = settings
        self.records = Records(redis, settings)
        self.now = NOON
        self.clock = 0.0
        self.users_per_call = 100
        self.rule = CampaignSettings()
        self.published: list[Wakeup] = []
        self.payloads: list[dict[str, Any]] = []

    async def put(self, **fields: Any) -> str:
        return await campaigns.put(self.database, **fields)

    async def row(self, campaign: str) -> Any:
        return await campaigns.read(self.database, campaign)

    async def chunks(self, campaign: str) -> list[Any]:
        return await campaigns.chunks(self.database, campaign)

    async def released(self, **fields: Any) -> tuple[str, Dispatcher]:
        """A campaign, and a dispatcher that has released its first chunks."""
        campaign, dispatcher = await self.put(**fields), await self.dispatcher()
        await dispatcher.tick()
        return campaign, dispatcher

    async def move(self, campaign: str, verb: str) -> None:
        await campaigns.move(self.settings, self.database, campaign, verb)

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        self.published += wakeups
        return []

    async def dispatcher(self) -> Dispatcher:
        """One that has just taken the lease from another one."""
        holder = uuid.uuid4().hex
        await self.redis.set(keys.DISPATCHER, holder, px=60_000)
        publisher: Any = self
        dispatcher = Dispatcher(
            self.records,
            publisher,
            self.database,
            settings=self.rule,
            users_per_call=lambda _: self.users_per_call,
            now=lambda: self.now,
            clock=lambda: self.clock,
        )
        dispatcher.begin(holder)
        return dispatcher

    def leader(self) -> Leader:
        publisher: Any = self
        parts = LeaderParts(
            records=self.records,
            publisher=publisher,
            database=lambda: self.database,
            settings=Settings.load(env="test", campaigns=self.rule.model_dump()),
            users_per_call=lambda _: 100,
        )
        led = [duty for duty in duties.under_lease("work", parts) if duty.name == "campaigns"]
        return Leader(self.redis, WORK, led)

    async def claim(self, wakeup: Wakeup) -> Claim | None:
        return (await self.records.claim(received(wakeup)))[1]

    async def run(self, *, error: dict[str, str] | None = None) -> list[int]:
        """Run every published job to its end; the numbers of the chunks."""
        ran: list[int] = []
        wakeups, self.published = self.published, []
        for wakeup in wakeups:
            claim = await self.claim(wakeup)
            if claim is None:
                continue
            self.payloads.append(claim.payload)
            ran.append(claim.payload["number"])
            call = {"task_id": 100 + ran[-1], "request_id": "r"}
            call["recipients"] = len(claim.payload["users"])
            at, repeated = self.now.isoformat(), claim.payload["repeated"]
            result = None if error else {"call": call, "called_at": at, "ambiguous": repeated}
            state = JobState.DEAD if error else JobState.DONE
            await self.records.settle(claim, state, usage=Usage(), result=result, error=error)
        return ran

    async def jobs(self) -> int:
        """How many records there are."""
        return len([key async for key in self.redis.scan_iter(keys.job("*"))])

    async def run_to_end(self, dispatcher: Dispatcher, campaign: str) -> Any:
        """The campaign's row once it is done."""
        for _ in range(20):
            await dispatcher.tick()
            self.clock += 0.1
            await self.run()
            row = await self.row(campaign)
            if row.state == State.DONE:
                return row
        raise AssertionError(row)


@pytest.fixture
def fleet(redis: Redis, database: Database, settings: Settings) -> Fleet:
    return Fleet(redis, database, settings)


def breaks(monkeypatch: pytest.MonkeyPatch, target: object, name: str, error: Exception) -> None:
    """The next call of a coroutine function raises, and does nothing."""
    real = getattr(target, name)

    async def broken(*_: object, **__: object) -> None:
        monkeypatch.setattr(target, name, real)
        raise error

    monkeypatch.setattr(target, name, broken)


def nothing(*_: object) -> None:
    """Placeholder around a transaction."""


def around(
    monkeypatch: pytest.MonkeyPatch,
    database: Database,
    *,
    before: Callable[[str], None] = nothing,
    after: Callable[[], None] = nothing,
    seconds: float = 0,
) -> None:
    """Do something before and after each transaction, which takes so long."""
    real = database.write

    @asynccontextmanager
    async def write(app: str) -> AsyncIterator[AsyncConnection]:
        before(app)
        async with real(app) as connection:
            yield connection
            await asyncio.sleep(seconds)
        after()

    monkeypatch.setattr(database, "write", write)


async def test_every_chunk_is_called_once_and_nothing_is_left_in_redis(fleet: Fleet) -> None:
    campaign = await fleet.put(people=61)
    row = await fleet.run_to_end(await fleet.dispatcher(), campaign)
    assert (row.accepted, row.calls, row.settled, row.failed) == (61, 31, 31, 0)
    assert row.ended_at is not None
    assert sorted(payload["number"] for payload in fleet.payloads) == list(range(31))
    assert not any(payload["repeated"] for payload in fleet.payloads)
    assert await fleet.jobs() == 0
    assert not await fleet.redis.exists(keys.SCHEDULE, keys.RECENT, keys.DEAD)
    assert await (await fleet.dispatcher()).tick() is None


async def test_crash_before_enqueue(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await fleet.put()
    dying = await fleet.dispatcher()
    breaks(monkeypatch, dying._queue, "enqueue", RedisAway())
    with pytest.raises(RedisAway):
        await dying.tick()
    assert (await fleet.run_to_end(await fleet.dispatcher(), campaign)).accepted == 4
    assert len(fleet.payloads) == 2
    assert all(chunk.ambiguous for chunk in await fleet.chunks(campaign))


async def test_a_crash_between_enqueue_and_publish_makes_no_second_job(fleet: Fleet) -> None:
    campaign, _ = await fleet.released()
    wakeups = fleet.published
    fleet.published = []
    await (await fleet.dispatcher()).tick()
    assert not fleet.published
    assert await fleet.jobs() == 2
    fleet.published = wakeups * 2
    assert await fleet.run() == [0, 1]
    assert (await fleet.run_to_end(await fleet.dispatcher(), campaign)).calls == 2


async def test_database_away_after_the_jobs(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, dispatcher = await fleet.released()
    await fleet.run()
    away = OperationalError("", {}, Exception())
    breaks(monkeypatch, dispatcher, "_goes_on", away)
    with pytest.raises(OperationalError):
        await dispatcher.tick()
    assert (await fleet.row(campaign)).settled == 0
    assert await fleet.jobs() == 2
    row = await fleet.run_to_end(dispatcher, campaign)
    assert (row.accepted, row.calls, len(fleet.payloads)) == (4, 2, 2)


async def test_crash_before_deletion(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, dying = await fleet.released(people=30)
    await fleet.run()
    breaks(monkeypatch, dying._queue, "forget", RedisAway())
    with pytest.raises(RedisAway):
        await dying.tick()
    assert await fleet.jobs() == 10
    row = await fleet.run_to_end(await fleet.dispatcher(), campaign)
    assert (row.accepted, row.calls, row.settled) == (30, 15, 15)
    assert await fleet.jobs() == 0


async def test_a_late_wakeup_of_a_settled_chunk_is_no_new_job(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released()
    wakeups = list(fleet.published)
    await fleet.run_to_end(dispatcher, campaign)
    for wakeup in wakeups:
        assert await fleet.claim(wakeup) is None
    assert await fleet.jobs() == 0


async def test_an_emptied_redis_repeats_the_day_and_says_so(fleet: Fleet, redis: Redis) -> None:
    campaign, _ = await fleet.released()
    await fleet.run()
    await redis.flushall()
    row = await fleet.run_to_end(await fleet.dispatcher(), campaign)
    assert (row.accepted, row.settled) == (4, 2)
    assert [payload["repeated"] for payload in fleet.payloads] == [False, False, True, True]
    first, again = fleet.payloads[0], fleet.payloads[2]
    assert (first["users"], first["message"]) == (again["users"], again["message"])
    assert all(chunk.ambiguous for chunk in await fleet.chunks(campaign))


@pytest.mark.parametrize("held_up_by", ["pause", "quota"])
async def test_lost_jobs_are_not_released(fleet: Fleet, redis: Redis, held_up_by: str) -> None:
    """On another day it would arrive a second time, and no report would say so; on this one it waits."""
    campaign, _ = await fleet.released(people=2, error_share=1.0)
    await fleet.run()
    await redis.flushall()
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    if held_up_by == "pause":
        await fleet.move(campaign, "pause")
        await dispatcher.tick()
    else:
        await fleet.run(error={**BAD, "class": "quota"})
    await dispatcher.tick()
    [chunk] = await fleet.chunks(campaign)
    assert (await fleet.row(campaign)).state == State.PAUSED
    await dispatcher.tick()
    await fleet.move(campaign, "resume")
    await dispatcher.tick()
    [job] = [key async for key in redis.scan_iter(keys.job("*"))]
    assert await redis.hget(job, "state") == b"queued"
    assert (chunk.state, chunk.generation) == ("queued", 1)


async def test_a_record_lost_on_an_earlier_day_ends_unknown(fleet: Fleet, redis: Redis) -> None:
    campaign, _ = await fleet.released(people=42, error_share=1.0)
    await redis.flushall()
    fleet.now += timedelta(days=1)
    fleet.published = []
    row = await fleet.run_to_end(await fleet.dispatcher(), campaign)
    assert (row.accepted, row.failed, row.settled) == (22, 20, 21)
    lost = (await fleet.chunks(campaign))[:10]
    assert {chunk.error["class"] for chunk in lost} == {"unknown"}


async def test_an_old_dispatcher_is_fenced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await fleet.put()
    older = await fleet.dispatcher()
    enqueue, forget = older._queue.enqueue, older._queue.forget
    held: list[Any] = []

    async def hold(*arguments: Any) -> None:
        held.append(arguments)

    monkeypatch.setattr(older._queue, "enqueue", hold)
    await older.tick()
    newer = await fleet.dispatcher()
    assert (await fleet.run_to_end(newer, campaign)).accepted == 4
    # It wakes up with chunks to enqueue that were settled while it slept.
    await enqueue(*held[0])
    assert not fleet.published
    assert await fleet.jobs() == 0
    again = await fleet.put()
    await newer.tick()
    assert await fleet.jobs() == 2
    await forget((await newer._read())[0].campaign, [Release(0, 1), Release(1, 1)])
    assert await fleet.jobs() == 2
    assert (await fleet.run_to_end(newer, again)).calls == 2


async def test_two_dispatchers_at_once_settle_and_release_each_chunk_once(fleet: Fleet) -> None:
    campaign = await fleet.put(people=80)
    one, two = await fleet.dispatcher(), await fleet.dispatcher()
    for _ in range(8):
        await two.tick()
        await fleet.run()
        turns = await one._read()
        await two.tick()
        for turn in turns:
            await one._sort_jobs(turn)
            turn.free = 3
            await one._carry_on(turn)
        await fleet.run()
    row = await fleet.run_to_end(two, campaign)
    assert (row.accepted, row.calls, row.settled) == (80, 40, 40)
    numbers = [payload["number"] for payload in fleet.payloads]
    assert sorted(numbers) == list(range(40))


async def test_pause_takes_back_what_has_not_started_and_resume_sends_it(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=6)
    started = await fleet.claim(fleet.published[0])
    assert started is not None
    await fleet.move(campaign, "pause")
    await dispatcher.tick()
    states = [chunk.state for chunk in await fleet.chunks(campaign)]
    assert states == ["queued", "pending", "pending"]
    # The one that runs may not call any more.
    assert await fleet.records.write_intent(started, {}, Usage()) == "cancelled"
    await fleet.records.park(started, JobState.SNOOZED, delay=0, usage=Usage())
    await dispatcher.tick()
    assert await fleet.jobs() == 0
    assert await dispatcher.tick() is None
    fleet.published = []
    await fleet.move(campaign, "resume")
    row = await fleet.run_to_end(dispatcher, campaign)
    assert (row.accepted, row.reason) == (6, "")
    assert sorted(payload["number"] for payload in fleet.payloads) == [0, 1, 2]


async def test_a_call_without_an_answer_is_carried_on_after_a_pause(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=2)
    claim = await fleet.claim(fleet.published.pop())
    assert claim is not None
    intent = {"step": "call", "attempt": 1, "at": 1}
    assert await fleet.records.write_intent(claim, intent, Usage()) == "written"
    await fleet.records.park(claim, JobState.RETRYING, delay=60, usage=Usage(attempts=1))
    await fleet.move(campaign, "pause")
    await dispatcher.tick()
    await dispatcher.tick()
    assert (await fleet.chunks(campaign))[0].state == "queued"
    await fleet.move(campaign, "resume")
    await dispatcher.tick()
    fields = await fleet.redis.hgetall(keys.job(claim.id))
    assert fields[b"state"] == b"queued"
    assert b"intent" in fields


async def test_cancel_counts_the_rest_as_cancelled(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=60)
    fleet.published = fleet.published[:2]
    await fleet.run()
    await fleet.move(campaign, "cancel")
    await dispatcher.tick()
    assert await dispatcher.tick() is None
    row = await fleet.row(campaign)
    assert (row.state, row.accepted, row.failed, row.settled) == ("cancelled", 4, 0, 30)
    assert row.ended_at is not None
    errors = [chunk.error for chunk in await fleet.chunks(campaign)]
    assert errors[:2] == [None, None]
    assert {error["class"] for error in errors[2:]} == {"cancelled"}
    assert await fleet.jobs() == 0


async def test_a_cancellation_writes_one_row_and_the_leader_ends_the_chunks_in_slices(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dingrelay_workers.database.database.CHUNK", 10)
    monkeypatch.setattr("dingrelay_workers.campaigns.dispatcher.CANCELLING", 0.0)
    campaign, dispatcher = await fleet.put(people=60), await fleet.dispatcher()
    await fleet.move(campaign, "cancel")
    states = [chunk.state for chunk in await fleet.chunks(campaign)]
    assert states == ["pending"] * 30
    report = Report(fleet.database)
    for settled in (0, 10, 20, 30):
        assert (await fleet.row(campaign)).settled == settled
        # All this time its people count as cancelled in every view.
        found = await report.summary(campaign)
        assert (found.outcomes["cancelled"], found.outcomes["pending"]) == (60, 0)
        [reason] = found.reasons
        assert (reason.outcome, reason.people) == ("cancelled", 60)
        [page] = [page async for page in report.results(campaign, "cancelled")]
        assert len({each.userid for each in page}) == 60
        assert [page async for page in report.results(campaign, "pending")] == []
        await dispatcher.tick()
    assert await dispatcher.tick() is None


@pytest.mark.parametrize("name", ["quota", "outage", "settings"])
async def test_an_error_of_every_chunk_pauses_and_loses_nobody(fleet: Fleet, name: str) -> None:
    campaign, dispatcher = await fleet.released()
    error = {"class": name, "code": name, "message": "no more", "hint": ""}
    await fleet.run(error=error)
    await dispatcher.tick()
    row = await fleet.row(campaign)
    assert row.state == State.PAUSED
    assert row.reason.endswith(": no more")
    assert row.failed == 0
    await fleet.move(campaign, "resume")
    assert (await fleet.run_to_end(dispatcher, campaign)).accepted == 4


async def test_too_many_failures_pause_it(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=2_000, size=100, error_share=0.5)
    rest, fleet.published = fleet.published[4:], fleet.published[:4]
    await fleet.run(error=BAD)
    await dispatcher.tick()
    assert (await fleet.row(campaign)).state == State.RUNNING
    fleet.published = rest[:2]
    await fleet.run(error=BAD)
    await dispatcher.tick()
    row = await fleet.row(campaign)
    assert (row.state, row.reason) == (State.PAUSED, "600 of the latest 600 people failed")


async def test_nothing_leaves_before_its_time_or_in_quiet_hours(fleet: Fleet) -> None:
    later = await fleet.put(start_at=NOON + timedelta(hours=1))
    quiet = await fleet.put(quiet="11:00-13:30")
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    assert not fleet.published
    fleet.now += timedelta(hours=1, minutes=1)
    await dispatcher.tick()
    assert await fleet.run() == [0, 1]
    assert {payload["campaign"] for payload in fleet.payloads} == {later}
    fleet.now += timedelta(hours=1)
    assert (await fleet.run_to_end(dispatcher, quiet)).accepted == 4


@pytest.mark.parametrize(("back", "most"), [(0, 22), (1, 26)], ids=["", "a clock that steps back"])
async def test_a_rate_of_its_own_is_kept(fleet: Fleet, back: int, most: int) -> None:
    campaign, dispatcher = await fleet.released(people=200, size=2, rate=120)
    fleet.now -= timedelta(hours=back)
    for _ in range(40):
        await dispatcher.tick()
        fleet.now += timedelta(seconds=0.25)
        await fleet.run()
    called = sum(len(payload["users"]) for payload in fleet.payloads)
    assert 18 <= called <= most
    assert (await fleet.row(campaign)).state == State.RUNNING


async def test_two_campaigns_share_by_weight(fleet: Fleet) -> None:
    heavy = await fleet.put(people=2_000, size=2, weight=3)
    await fleet.put(people=2_000, size=2, weight=1)
    dispatcher = await fleet.dispatcher()
    for _ in range(5):
        await dispatcher.tick()
        await fleet.run()
        fleet.clock += 0.5
    ours = [payload["campaign"] == heavy for payload in fleet.payloads]
    assert sum(ours) / len(ours) == pytest.approx(0.75, abs=0.02)


async def test_what_0_2_0_has_under_way_is_carried_on(fleet: Fleet) -> None:
    """A draft with calls under way would be written again, and sent to their people again."""
    fleet.rule = CampaignSettings(approve="always")
    campaign = await fleet.put(started_at=fleet.now)
    await campaigns.release(fleet.database, campaign, 1)
    await (await fleet.dispatcher()).tick()
    assert (await fleet.row(campaign)).state == State.RUNNING


async def test_a_draft_that_0_2_0_started_is_a_draft_again(fleet: Fleet) -> None:
    """It takes every draft for one that is ready: it would be done, without a person, and not written any more."""
    campaign = await fleet.put(started_at=fleet.now)
    await change(fleet.database, CampaignRow, chunks=0)
    await (await fleet.dispatcher()).tick()
    row = await fleet.row(campaign)
    assert (row.state, row.started_at, row.ended_at) == (State.DRAFT, None, None)
    assert row.reason.startswith("is a draft: make it ready first")


async def approve(fleet: Fleet, campaign: str) -> None:
    row = await fleet.row(campaign)
    approval = {"campaign": campaign, "digest": digest_of(row), "asked_by": "ann"}
    await rows.put(
        fleet.database, ReviewRow, {**approval, "decision": "approved", "decided_by": "bob"}
    )


async def test_what_the_workers_rule_holds_is_not_sent_whatever_door_started_it(
    fleet: Fleet,
) -> None:
    """A command whose settings have no rule starts it: its leader makes it ready again, with the reason."""
    fleet.rule = CampaignSettings(approve="always")
    campaign = await fleet.put(state=State.DRAFT, writers=["ann"])
    await fleet.move(campaign, "start")
    dispatcher = await fleet.dispatcher()
    await dispatcher.tick()
    held = await fleet.row(campaign)
    assert (held.state, held.started_at, fleet.published) == (State.DRAFT, None, [])
    assert held.reason == "needs the approval of a second person: ask for it first"
    await approve(fleet, campaign)
    await fleet.move(campaign, "start")
    await dispatcher.tick()
    assert len(fleet.published) == 2
    # A rule that is made stricter while it runs stops no campaign in its midst.
    await change(fleet.database, ReviewRow, decision="rejected")
    await fleet.run()
    await dispatcher.tick()
    assert (await fleet.row(campaign)).state == State.DONE


async def test_an_approval_of_something_else_lets_nothing_leave(fleet: Fleet) -> None:
    fleet.rule = CampaignSettings(approve="always")
    campaign = await fleet.put(state=State.DRAFT, writers=["ann"])
    await approve(fleet, campaign)
    await change(fleet.database, CampaignRow, people_digest="of others")
    await fleet.move(campaign, "start")
    await (await fleet.dispatcher()).tick()
    assert ((await fleet.row(campaign)).state, fleet.published) == (State.DRAFT, [])


async def test_campaigns_of_a_writer_within_a_day_count_as_one(fleet: Fleet) -> None:
    fleet.rule = CampaignSettings(approve="over 7")
    dispatcher = await fleet.dispatcher()

    async def stage(*writers: str, approved: bool = False) -> str:
        campaign = await fleet.put(people=4, writers=list(writers))
        if approved:
            await approve(fleet, campaign)
        await dispatcher.tick()
        found: str = (await fleet.row(campaign)).state
        return found

    assert await stage("ann", "bob") == State.RUNNING
    assert await stage("bob") == State.DRAFT
    assert await stage("bob", approved=True) == State.RUNNING
    assert await stage("cho") == State.RUNNING
    await fleet.run()
    await dispatcher.tick()
    for gone in await campaigns_in(fleet, State.DONE):
        await campaigns.hide(fleet.database, gone)
        await removal.remove(fleet.database, gone)
    assert await stage("ann") == State.DRAFT, "to delete one is no way around it"
    fleet.now += timedelta(days=1, minutes=1)
    assert await stage("ann") == State.RUNNING


async def test_campaigns_that_ended_or_never_started_are_deleted_after_their_time(
    fleet: Fleet,
) -> None:
    fleet.rule = CampaignSettings(keep_days=30)
    long_ago, lately = NOON - timedelta(days=31), NOON - timedelta(days=29)
    for state in (State.DONE, State.CANCELLED):
        await fleet.put(state=state, ended_at=long_ago)
    ready = {"state": State.DRAFT, "created_at": long_ago}
    await fleet.put(**ready)
    await fleet.put(**ready, updated_at=long_ago, start_at=long_ago)
    stay = {
        await fleet.put(state=State.DONE, ended_at=lately),
        await fleet.put(state=State.PAUSED, ended_at=None, created_at=long_ago),
        await fleet.put(**ready, updated_at=lately),
        await fleet.put(**ready, start_at=NOON + timedelta(days=1)),
    }
    dispatcher = await fleet.dispatcher()
    while await rows.count(fleet.database, CampaignRow) > len(stay):
        await dispatcher.tick()
    await dispatcher.tick()
    assert await rows.count(fleet.database, CampaignRow) == len(stay)
    for campaign in stay:
        assert len(await fleet.chunks(campaign)) == 2


async def campaigns_in(fleet: Fleet, state: State) -> list[str]:
    async with fleet.database.read() as connection:
        return list(
            await connection.scalars(select(CampaignRow.id).where(CampaignRow.state == state))
        )


async def test_senders_share_evenly_however_many_campaigns_they_have(fleet: Fleet) -> None:
    for _ in range(9):
        await fleet.put(people=400, size=2, sender="hr")
    alone = await fleet.put(people=2_000, size=2, sender="it")
    dispatcher = await fleet.dispatcher()
    for _ in range(5):
        await dispatcher.tick()
        await fleet.run()
        fleet.clock += 0.5
    ours = [payload["campaign"] == alone for payload in fleet.payloads]
    assert sum(ours) / len(ours) == pytest.approx(0.5, abs=0.02)


async def test_a_campaign_that_starts_is_carried_on_by_one_worker_at_once(fleet: Fleet) -> None:
    one, two = fleet.leader(), fleet.leader()
    await lead_once(one)
    await lead_once(two)
    campaign = await fleet.put(state=State.DRAFT)
    await fleet.move(campaign, "start")
    await lead_once(two)
    await lead_once(one)
    assert len(fleet.published) == 2
    await one.close()
    await fleet.run()
    await lead_once(two)
    assert (await fleet.row(campaign)).state == State.DONE
    await two.close()


async def test_a_start_whose_signal_is_lost_counts_all_the_same(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await fleet.put(state=State.DRAFT)
    breaks(monkeypatch, Lease, "announce", RedisAway())
    with pytest.raises(ServiceUnavailable):
        await fleet.move(campaign, "start")
    assert (await fleet.row(campaign)).state == State.RUNNING


async def test_no_tables_are_no_campaign(fleet: Fleet, redis: Redis, tmp_path: Path) -> None:
    path = tmp_path / "none.db"
    fleet.database = Database(f"sqlite:///{path}")
    await WORK.announce(redis)
    leader = fleet.leader()
    await lead_once(leader)
    assert not path.exists()
    await leader.close()


async def test_a_slow_database_costs_neither_the_lease_nor_a_call(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await fleet.put()
    monkeypatch.setattr(leaders, "LEASE", 1.0)
    locks: list[str] = []
    around(monkeypatch, fleet.database, before=locks.append, seconds=1.5)
    await WORK.announce(redis)
    one, two = fleet.leader(), fleet.leader()
    await one.look()
    lease = await redis.get(keys.DISPATCHER)
    while not fleet.published:
        await one.look()
        await two.look()
        await asyncio.sleep(0.02)
    assert locks
    assert await redis.get(keys.DISPATCHER) == lease
    await one.close()
    await two.close()
    monkeypatch.undo()
    await fleet.run()
    assert (await fleet.run_to_end(await fleet.dispatcher(), campaign)).calls == 2
    assert not any(payload["repeated"] for payload in fleet.payloads)


async def test_the_metrics_show_what_is_carried_on_here(fleet: Fleet) -> None:
    await fleet.put(people=61)
    _, dispatcher = await fleet.released(people=4, state=State.PAUSED)
    for name, paused, running in (("campaigns", 1, 1), ("campaign_people_left", 4, 61)):
        for state, figure in (("paused", paused), ("running", running)):
            labels = {"app": "default", "state": state}
            assert REGISTRY.get_sample_value(f"dingrelay_{name}", labels) == figure
    assert REGISTRY.get_sample_value("dingrelay_campaign_chunks")
    dispatcher.begin("")
    assert not CAMPAIGNS.series
    assert REGISTRY.get_sample_value("dingrelay_campaign_chunks") == 0


async def test_a_stalled_dispatcher_can_not_give_back_what_was_released_again(fleet: Fleet) -> None:
    campaign = await fleet.put(people=4, size=4)
    older = await fleet.dispatcher()
    await older.tick()
    await fleet.move(campaign, "pause")
    stalled = await older._read()
    for turn in stalled:
        await older._sort_jobs(turn)
    assert stalled[0].back
    newer = await fleet.dispatcher()
    await newer.tick()
    await fleet.move(campaign, "resume")
    fleet.published = []
    await newer.tick()
    assert await fleet.run() == [0]
    for turn in stalled:
        await older._carry_on(turn)
    row = await fleet.run_to_end(newer, campaign)
    assert (row.accepted, row.calls, len(fleet.payloads)) == (4, 1, 1)


async def test_chunks_given_back_to_a_cancelled_campaign_are_cancelled(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=4)
    await fleet.move(campaign, "pause")
    turns = await dispatcher._read()
    for turn in turns:
        await dispatcher._sort_jobs(turn)
    await fleet.move(campaign, "cancel")
    for turn in turns:
        await dispatcher._carry_on(turn)
    row = await fleet.row(campaign)
    assert (row.state, row.settled, row.chunks) == ("cancelled", 2, 2)
    chunks = await fleet.chunks(campaign)
    assert {chunk.error["class"] for chunk in chunks} == {"cancelled"}


async def test_a_lost_commit_answer(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = await fleet.put(people=60)
    dispatcher = await fleet.dispatcher()
    count = iter(range(1_000))

    def lose() -> None:
        if next(count) % 2 == 0:
            raise OperationalError("commit", {}, Exception("connection lost"))

    around(monkeypatch, fleet.database, after=lose)
    for _ in range(40):
        with suppress(OperationalError):
            await dispatcher.tick()
        await fleet.run()
    row = await fleet.row(campaign)
    assert (row.state, row.accepted, row.calls) == (State.DONE, 60, 30)
    assert await fleet.jobs() == 0
    assert not any(chunk.ambiguous for chunk in await fleet.chunks(campaign))


async def test_one_failing_campaign(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [await fleet.put() for _ in range(2)]
    good = await fleet.put()

    def refuse(app: str) -> None:
        if any(campaign in app for campaign in bad):
            raise OperationalError("", {}, Exception("can't be stored"))

    around(monkeypatch, fleet.database, before=refuse)
    dispatcher = await fleet.dispatcher()
    for _ in range(6):
        with suppress(OperationalError):
            await dispatcher.tick()
        await fleet.run()
    assert (await fleet.row(good)).state == State.DONE


async def test_a_rate_holds_over_changes_of_the_dispatcher(fleet: Fleet) -> None:
    await fleet.put(people=2_000, size=100, rate=100)
    for _ in range(5):
        dispatcher = await fleet.dispatcher()
        for _ in range(4):
            await dispatcher.tick()
            fleet.now += timedelta(seconds=0.25)
            await fleet.run()
    assert sum(len(payload["users"]) for payload in fleet.payloads) == 100


async def test_twenty_people_are_enough_to_pause(fleet: Fleet) -> None:
    campaign, dispatcher = await fleet.released(people=20, size=1)
    await fleet.run(error=BAD)
    await dispatcher.tick()
    row = await fleet.row(campaign)
    assert (row.state, row.reason) == (State.PAUSED, "10 of the latest 10 people failed")
    assert row.settled == 10


async def test_the_latest_failures_count_and_not_those_of_all_time(fleet: Fleet) -> None:
    campaign = await fleet.put(people=1_000, size=2, error_share=0.5)
    dispatcher = await fleet.dispatcher()
    while (await fleet.row(campaign)).accepted < 240:
        await dispatcher.tick()
        await fleet.run()
    while (row := await fleet.row(campaign)).state == State.RUNNING:
        await dispatcher.tick()
        await fleet.run(error=BAD)
    assert row.state == State.PAUSED
    assert 100 <= row.failed <= 160
    # What failed before it was resumed is not held against it.
    await fleet.move(campaign, "resume")
    await dispatcher.tick()
    for wakeup in fleet.published[1:]:
        assert (await fleet.claim(wakeup)) is not None
    fleet.published = fleet.published[:1]
    await fleet.run(error=BAD)
    await dispatcher.tick()
    assert (await fleet.row(campaign)).state == State.RUNNING


async def test_only_what_makes_sense_is_allowed(fleet: Fleet) -> None:
    draft = await fleet.put(state=State.DRAFT)
    with pytest.raises(CampaignConflict):
        await fleet.move(draft, "pause")
    with pytest.raises(CampaignNotFound):
        await fleet.move("none", "start")
    await fleet.move(draft, "start")
    await fleet.move(draft, "start")
    await fleet.move(draft, "cancel")
    with pytest.raises(CampaignConflict):
        await fleet.move(draft, "resume")


async def test_its_end_and_a_pause_of_its_own_are_notices(fleet: Fleet) -> None:
    await subscribe(fleet.database)
    ended = await fleet.put(people=4, size=2, sender="crm")
    await fleet.run_to_end(await fleet.dispatcher(), ended)
    paused, dispatcher = await fleet.released()
    await fleet.run(error={**BAD, "class": "quota"})
    await dispatcher.tick()
    (end, data), (pause, why) = await taken(fleet.database)
    assert (end, data["id"], data["state"]) == ("campaign.completed", ended, "done")
    assert (data["accepted"], data["calls"]) == (4, 2)
    assert (pause, why["id"], why["state"]) == ("campaign.paused", paused, "paused")
    assert why["reason"].endswith("bad")
