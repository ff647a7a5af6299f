"""Parked jobs and the turns of their senders, on a real Valkey and a clock of the test's own."""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, transitions
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.states import State
from dingrelay_tasks.contract import Lane
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import MICRO, Ask, Reply
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import ParkedJobs, Turn, Turns, wake_parked
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store.records import Claim, Records, Usage
from support.jobs import a_wakeup, cancel, claimed, places, queued, server_time, state

API = "message.send"
TURNS = Turns("default", API, "bulk")
CALLS = {API: {"calls": "20/1s", "recipients": ""}}
RECIPIENTS = {API: {"calls": "20/1s", "recipients": "500/10s"}}
PACE = 19 * 1.05
"""Jobs that are woken a second."""
MOST_COMING = 32
"""Jobs that are woken and have not had their calls at most."""
AT_ONCE = 20
"""Jobs that are woken for the first second of slots."""


class Lanes:
    """Jobs that are parked, and woken at a time that the test sets."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self.redis = redis
        self.records = Records(redis, settings)
        self.schedule = Schedule(redis, settings)
        self.rules = Rules.from_settings(CALLS, "office")
        self.api = API
        self.now = 1_800_000_000 * MICRO
        self.drafts: dict[str, record.Draft] = {}

    def turns(self, lane: Lane = "bulk", app: str = "default") -> Turns:
        return Turns(app, self.api, lane)

    async def park(self, sender: str, *, text: str = "", users: int = 1, **fields: Any) -> float:
        """One more job of a sender, which can't wait in its worker; the guess (s) when it may."""
        content = {"msgtype": "text", "text": {"content": text or uuid.uuid4().hex}}
        to = {"users": [f"{uuid.uuid4().hex[:8]}-{number}" for number in range(users)]}
        fields = {"lane": "bulk", "message": content, "to": to, **fields}
        draft = await queued(self.redis, sender=sender, **fields)
        self.drafts[draft.id] = draft
        return await self.leave(await claimed(self.records, draft), users)

    async def fill(self, each: int, *senders: str, **fields: Any) -> None:
        """So many jobs of each of these senders, in turn."""
        for _ in range(each):
            for sender in senders:
                await self.park(sender, **fields)

    async def leave(self, claim: Claim, users: int = 1) -> float:
        """A worker parks a job that it runs; the guess when its turn is."""
        turns, rules = self.turns(claim.lane, claim.app), self.rules.of(claim.app, self.api)
        costs = [users if rule.unit == "recipients" else 1 for rule in rules]
        carried = {"woken": claim.id if claim.turn else "", "shared": claim.shared}
        carried["recipients"] = users
        call = buckets.park(rules, turns, costs, claim.sender, self.now, **carried)
        micros, _, had = await run_async(self.redis, call)
        due_in, turn = float(micros) / MICRO, Turn(turns, had.decode(), users)
        waits = {"delay": due_in, "waiting": claim.waiting or len(self.drafts)}
        await self.records.park(claim, State.SNOOZED, usage=Usage(), turn=turn, **waits)
        return due_in

    async def wake(self, *, lane: Lane = "bulk", app: str = "default") -> list[Claim]:
        """Wake who may come by now; each has its call."""
        await self.wake_only(lane=lane, app=app)
        names = await self.in_turn(lane=lane, app=app)
        claims = [await claimed(self.records, self.drafts[name]) for name in names]
        await self.redis.delete(self.turns(lane, app).in_turn)
        return claims

    async def wake_only(self, *, lane: Lane = "bulk", app: str = "default") -> int:
        """How many are woken; they have not had their calls."""
        rules = self.rules.of(app, self.api)
        woken, _ = await run_async(self.redis, wake_parked(rules, self.turns(lane, app), self.now))
        return int(woken)

    async def in_turn(self, *, lane: Lane = "bulk", app: str = "default") -> list[str]:
        """Jobs that are woken and have not had their calls."""
        names = await self.redis.zrange(self.turns(lane, app).in_turn, 0, -1)
        return [name.decode() for name in names]

    async def shift(self, milliseconds: int) -> None:
        """Move their wake-ups later."""
        for name in await self.in_turn():
            await self.redis.zincrby(self.turns().in_turn, milliseconds, name)

    async def late(self, queue: str = "dingrelay.bulk", seconds: float = 0) -> list[Claim]:
        """Late jobs that an idle worker claims."""
        by = {"nonce": "n", "most": 4, "late": seconds}
        return await self.records.claim_late(self.turns(), queue, **by)

    async def wake_for(self, seconds: float, *, lane: Lane = "bulk") -> list[Claim]:
        """All that come in so many seconds, four times a second."""
        found: list[Claim] = []
        for _ in range(round(seconds * 4)):
            found += await self.wake(lane=lane)
            self.now += MICRO // 4
        return found

    async def call(self, sender: str, *, woken: str = "") -> Reply:
        """A call leaves that waited in its worker."""
        asks = [Ask((1, 1), woken=woken, sender=sender)]
        rules = self.rules.of("default", self.api)
        call = buckets.acquire(rules, "normal", asks, self.now, turns=self.turns())
        return Reply.read(await run_async(self.redis, call))

    async def horizon(self) -> float:
        """Seconds until all are through; 0 if none is parked."""
        until = await self.redis.hget(self.rules.of("default", self.api)[0].key, "tail:bulk")
        return max(0.0, float(until or 0) - self.now) / MICRO


def by_sender(claims: Sequence[Claim]) -> Counter[str]:
    return Counter(claim.sender for claim in claims)


@pytest.fixture
def lanes(redis: Redis, settings: Settings) -> Lanes:
    return Lanes(redis, settings)


async def test_senders_take_turns_whatever_their_number_of_jobs(lanes: Lanes) -> None:
    await lanes.fill(60, "many")
    await lanes.fill(10, "few")
    claims = await lanes.wake_for(1)
    assert by_sender(claims[:20]) == {"many": 10, "few": 10}
    assert by_sender(claims[20:]).keys() == {"many"}
    # A sender's own jobs come as it parked them.
    since = [claim.waiting for claim in claims if claim.sender == "many"]
    assert since == sorted(since)


async def test_a_later_sender_is_next_and_owes_nothing(lanes: Lanes) -> None:
    await lanes.fill(100, "early")
    assert len(await lanes.wake_for(2)) >= 40
    for sender in ("late", "later"):
        await lanes.fill(20, sender)
    lanes.now += MICRO
    claims = await lanes.wake()
    assert by_sender(claims[:3]) == {"early": 1, "late": 1, "later": 1}
    assert max(by_sender(claims).values()) - min(by_sender(claims).values()) <= 1


async def test_ever_new_senders_keep_nobody_from_the_next_call(lanes: Lanes) -> None:
    await lanes.fill(10, "z-stays")
    had = 0
    for round_ in range(120):
        await lanes.park(f"a{round_}")
        had += by_sender(await lanes.wake())["z-stays"]
        lanes.now += MICRO // 40
    assert had >= 3


async def test_they_come_back_at_the_pace_of_the_limit(lanes: Lanes) -> None:
    await lanes.fill(240, "one")
    first = await lanes.wake()
    assert len(first) == AT_ONCE
    lanes.now += MICRO // 4
    assert len(await lanes.wake_for(10)) == pytest.approx(10 * PACE, abs=2)


async def test_none_is_woken_while_many_wait_for_their_calls(lanes: Lanes) -> None:
    await lanes.fill(80, "one")

    async def wake_some() -> int:
        woken = 0
        for _ in range(40):
            woken += await lanes.wake_only()
            lanes.now += MICRO // 4
        return woken

    assert await wake_some() == MOST_COMING
    first, second, third, *_ = await lanes.in_turn()
    await lanes.call("one", woken=first)
    assert await wake_some() == 1
    await lanes.leave(await claimed(lanes.records, lanes.drafts[second]))
    assert await wake_some() == 1
    # One that has ended without a call is noticed a little later.
    await cancel(lanes.redis, third)
    await lanes.redis.zincrby(TURNS.in_turn, -2000, third)
    assert await wake_some() == 1


async def test_jobs_of_a_worker_that_is_gone_hold_nobody_up(lanes: Lanes) -> None:
    await lanes.fill(80, "one")

    async def woken() -> int:
        lanes.now += 2 * MICRO
        return await lanes.wake_only()

    assert await woken() + await woken() + await woken() == MOST_COMING
    for name in (await lanes.in_turn())[:10]:
        await claimed(lanes.records, lanes.drafts[name])
    assert await woken() == 0
    await lanes.shift(-6000)
    assert await woken() == 10, "those that ran have had their time, the others' wake-ups are late"


async def test_a_clock_that_steps_back_holds_nobody_up(lanes: Lanes) -> None:
    await lanes.fill(80, "one")
    await lanes.call("one", woken="another")
    await lanes.wake_only()
    await lanes.shift(3_600_000)
    lanes.now -= 3600 * MICRO
    await lanes.wake_only()
    lanes.now += 2 * MICRO
    assert await lanes.wake_only() == AT_ONCE


async def test_however_many_were_cancelled_the_next_slot_is_used(lanes: Lanes) -> None:
    await lanes.park("one")
    ended = {f"ended-{number}": -1 for number in range(2000)}
    await lanes.redis.zadd(TURNS.parked("one"), ended)
    assert await ParkedJobs(lanes.redis, lanes.rules).wake() == 1


async def test_idle_workers_claim_jobs_behind_in_the_queue(lanes: Lanes) -> None:
    await lanes.fill(10, "one")
    await lanes.wake_only()
    # They are to come one after another, within a millisecond or two.
    [(_, last)] = await lanes.redis.zrange(TURNS.in_turn, -1, -1, withscores=True)

    async def all_may() -> bool:
        return await server_time(lanes.redis) > last

    await wait_until_async(all_may)
    assert not await lanes.late("another")
    assert not await lanes.late(seconds=60)
    claims = [await lanes.late() for _ in range(4)]
    assert [len(each) for each in claims] == [4, 4, 2, 0]
    assert all(claim.turn for claim in claims[0])
    assert len(await lanes.in_turn()) == 10, "they have not had their calls"


async def test_jobs_that_have_ended_meanwhile_cost_their_sender_no_turn(lanes: Lanes) -> None:
    await lanes.fill(30, "one")
    cancelled = list(lanes.drafts)
    await lanes.fill(20, "one", "other")
    for job_id in cancelled:
        assert await cancel(lanes.redis, job_id) == b"cancelled"
    claims = await lanes.wake()
    assert by_sender(claims) == {"one": AT_ONCE // 2, "other": AT_ONCE // 2}


async def test_a_lane_with_a_pause_wakes_nobody_until_it_ends(lanes: Lanes) -> None:
    calls = lanes.rules.of("default", API)[0]
    await run_async(lanes.redis, buckets.penalize(calls, 60, "90018", 0.02, lanes.now))
    assert await lanes.park("one") > 60
    lanes.now += 58 * MICRO
    assert not await lanes.wake()
    lanes.now += 2 * MICRO
    assert len(await lanes.wake()) == 1


async def test_a_job_woken_without_a_call_has_its_turn_again(lanes: Lanes) -> None:
    await lanes.fill(40, "one", "two")
    first = await lanes.wake()
    back = [claim for claim in first if claim.sender == "one"]
    for claim in back:
        await lanes.leave(claim)
    lanes.now += MICRO
    again = await lanes.wake()
    # They come first, and in their order.
    ones = [claim.id for claim in again if claim.sender == "one"]
    assert ones[: len(back)] == [claim.id for claim in back]
    assert by_sender(again)["one"] >= by_sender(again)["two"] + len(back) - 2


async def test_a_call_out_of_turn_is_its_senders_turn(lanes: Lanes) -> None:
    await lanes.fill(20, "one", "two")
    for _ in range(4):
        await lanes.call("one")
        lanes.now += MICRO
    await lanes.call("two", woken="a job")
    assert by_sender(await lanes.wake()) == {"one": AT_ONCE // 2 - 2, "two": AT_ONCE // 2 + 2}


async def test_nothing_is_noted_of_calls_while_nobody_waits(lanes: Lanes) -> None:
    await lanes.call("one")
    assert not await lanes.redis.exists(TURNS.key)


async def test_senders_share_recipients_where_these_are_limited(lanes: Lanes) -> None:
    lanes.rules = Rules.from_settings(RECIPIENTS, "office")
    for _ in range(100):
        await lanes.park("to-few", users=2)
        await lanes.park("to-many", users=20, confirm=True)
    claims = by_sender(await lanes.wake_for(10))
    assert claims["to-few"] * 2 == pytest.approx(claims["to-many"] * 20, rel=0.2)
    recipients = claims["to-few"] * 2 + claims["to-many"] * 20
    assert recipients == pytest.approx(11 * (500 - 100) / 10.5 * 1.05, rel=0.1)


async def test_jobs_that_one_call_can_carry_have_one_turn(lanes: Lanes) -> None:
    await lanes.fill(120, "one", text="same")
    assert await lanes.horizon() == pytest.approx(2 / 19, abs=0.01)
    before = await server_time(lanes.redis)
    first = await lanes.wake()
    # One makes the call, and 99 are woken later, should it not take them along.
    assert len(first) == 2
    draft = lanes.drafts[first[0].id]
    waiting = await lanes.redis.zrange(draft.batch_key, 0, -1)
    assert len(waiting) == 118
    due = [await lanes.redis.zscore(keys.SCHEDULE, name) or 0.0 for name in waiting]
    assert all(before + 2000 < moment for moment in due)
    assert max(due) <= await server_time(lanes.redis) + 3000
    assert not (await lanes.schedule.take_due("w", lease=5, most=500)).wakeups


async def test_unbatched_jobs_take_turns(lanes: Lanes) -> None:
    """They wait for look-ups of their recipients."""
    lanes.api = "contacts.user"
    await lanes.fill(100, "one", text="same")
    claims = await lanes.wake()
    assert 0 < len(claims) <= AT_ONCE
    assert all(claim.turn for claim in claims)
    assert await lanes.redis.zcard(lanes.turns().parked("one")) == 100 - len(claims)


async def test_lanes_apps_and_parts_of_an_api_have_their_own_turns(lanes: Lanes) -> None:
    await lanes.fill(40, "one")
    await lanes.park("one", lane="normal")
    await lanes.park("one", app="other")
    assert len(await lanes.wake()) == AT_ONCE
    assert len(await lanes.wake(lane="normal")) == 1
    assert len(await lanes.wake(app="other")) == 1
    for turns in (Turns("a", "/topapi/*/x", "bulk"), Turns("b", "robot.webhook@x y", "urgent")):
        assert Turns.from_name(turns.name) == turns


@pytest.mark.parametrize("forgotten", [TURNS.parked("one"), TURNS.key, keys.LANES])
async def test_the_schedule_leaves_parked_jobs_to_their_turn(lanes: Lanes, forgotten: str) -> None:
    await lanes.fill(30, "one")

    async def scheduled() -> set[str]:
        """The jobs that the scheduler wakes when all are due."""
        for job in lanes.drafts:
            await lanes.redis.hset(keys.job(job), "due", 1)
            await lanes.redis.zadd(keys.SCHEDULE, {job: 1})
        woken = (await lanes.schedule.take_due("w", lease=5, most=500)).wakeups
        return {wakeup.id for wakeup in woken}

    assert await scheduled() == set()
    first = next(iter(lanes.drafts.values()))
    assert (await places(lanes.redis, first))["schedule"] > await server_time(lanes.redis)
    # What Redis has forgotten of them costs no job.
    await lanes.redis.delete(forgotten)
    assert await scheduled() == set(lanes.drafts)


async def test_a_guess_is_no_further_off_than_a_sender_that_takes_turns_waits(lanes: Lanes) -> None:
    many = [await lanes.park("many") for _ in range(200)]
    assert many[-1] == pytest.approx(200 / 19, rel=0.01)
    assert await lanes.horizon() == pytest.approx(200 / 19, rel=0.01)
    few = [await lanes.park("few") for _ in range(5)]
    assert few[-1] < 1


async def test_parked_jobs_are_counted_over_all_lanes_and_senders(lanes: Lanes) -> None:
    """However the limit was paused, or shared with others, until then."""
    await lanes.call("first")
    await lanes.fill(30, "one")
    await lanes.fill(10, "two", text="equal")
    await lanes.fill(5, "three", lane="normal")
    await lanes.redis.hdel(lanes.rules.of("default", API)[0].key, "tail:bulk", "tail:normal")
    states = await buckets.read_buckets(lanes.redis, lanes.rules)
    [calls] = [state for state in states if (state.api, state.unit) == (API, "calls")]
    assert calls.waiting == 45
    assert calls.horizon is not None
    left = (calls.horizon - datetime.now(UTC)).total_seconds()
    assert left == pytest.approx((30 + 1 + 5) / calls.rate, rel=0.2)


async def test_nothing_is_left_of_a_lane_once_all_are_through(lanes: Lanes) -> None:
    await lanes.fill(5, "one", "two")
    names = [name async for name in lanes.redis.scan_iter("dingrelay:*")]
    assert all([await lanes.redis.pttl(name) > 0 for name in names])
    assert await lanes.redis.zcard(keys.LANES) == 1
    assert len(await lanes.wake_for(1)) == 10
    await lanes.wake()
    left = [name async for name in lanes.redis.scan_iter("dingrelay:*")]
    ours = (b"dingrelay:turns", b"dingrelay:parked:", b"dingrelay:in_turn", b"dingrelay:lanes")
    assert [name for name in left if name.startswith(ours)] == []
    assert await lanes.horizon() == 0


async def test_the_scheduler_wakes_parked_jobs_of_all_lanes(lanes: Lanes) -> None:
    for lane in ("bulk", "normal"):
        await lanes.park("one", lane=lane)
    assert await ParkedJobs(lanes.redis, lanes.rules).wake() == 2
    woken = await lanes.schedule.take_due("w", lease=5, most=500)
    assert len(woken.wakeups) == 2


async def test_a_late_claim_takes_a_job_from_a_waiting_batch(lanes: Lanes) -> None:
    await lanes.park("one")
    (draft,) = lanes.drafts.values()
    waiting = keys.waiting("default", "content")
    await lanes.redis.hset(keys.job(draft.id), "batch_key", waiting)
    for key in (waiting, "default"):  # a key that is named as a value of the record is another's
        await lanes.redis.zadd(key, {draft.id: 1})
        await lanes.redis.pexpire(key, 60_000)
    await lanes.wake_only()
    assert await lanes.late(draft.queue)
    assert await lanes.redis.zscore(waiting, draft.id) is None
    assert await lanes.redis.zscore("default", draft.id) == 1
    await lanes.redis.delete("default")


async def test_a_wake_up_of_a_job_that_was_claimed_late_finds_it_running(lanes: Lanes) -> None:
    await lanes.park("one")
    (draft,) = lanes.drafts.values()
    await lanes.wake_only()
    (claim,) = await lanes.late(draft.queue)
    assert (await lanes.records.claim(a_wakeup(draft))).verdict == "busy"
    assert await state(lanes.redis, draft) == "running"
    await lanes.leave(claim)
    assert not (await lanes.records.claim(a_wakeup(draft))).claim, "it waits for its turn again"


async def test_parked_jobs_of_a_paused_sender_use_no_slot(lanes: Lanes) -> None:
    await lanes.fill(30, "paused", "free")
    call = transitions.pause(
        name="default:all:paused", ends=None, usual=60_000, longest=60_000, person="u1", reason=""
    )
    await run_async(lanes.redis, call)
    woken = await lanes.wake()
    assert {claim.sender for claim in woken} == {"free"}
    assert len(woken) == AT_ONCE
    held = await lanes.redis.zcard(keys.held_jobs("default:all:paused"))
    assert held >= AT_ONCE
    # Nothing of it stands in the way of the others, who have all the turns.
    turns = dict(await lanes.redis.zrange(lanes.turns().key, 0, -1, withscores=True))
    assert turns[b"free"] > 0


async def test_a_job_that_was_woken_for_its_turn_is_held_with_its_lane(lanes: Lanes) -> None:
    await lanes.fill(3, "a")
    assert await lanes.wake_only() == 3
    call = transitions.pause(
        name="default:bulk", ends=None, usual=60_000, longest=60_000, person="u1", reason=""
    )
    await run_async(lanes.redis, call)
    late = {"nonce": "n", "most": 10, "late": -60.0}
    assert await lanes.records.claim_late(lanes.turns(), "dingrelay.bulk", **late) == []
    assert await lanes.redis.zcard(keys.held_jobs("default:bulk")) == 3
    assert await lanes.in_turn() == []
