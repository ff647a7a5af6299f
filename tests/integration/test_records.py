"""The transitions of a job record, each under a fencing number, on a real Valkey."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError
from structlog.testing import capture_logs

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.states import State
from dingrelay_tasks import ApprovalCreate
from dingrelay_tasks.approval_decide import ApprovalDecide
from dingrelay_tasks.contract import Contract
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.slot import Turns
from dingrelay_workers.maintenance.presence import Leases
from dingrelay_workers.store.approval_claims import ApprovalClaims
from dingrelay_workers.store.records import Claim, Records, Usage
from support.jobs import (
    a_draft,
    a_wakeup,
    ahead,
    cancel,
    claimed,
    enqueue,
    places,
    queued,
    run_out,
    running,
    server_time,
    several,
    state,
)

NOTE = {"step": "call:1", "attempt": 1, "at": 5}
"""Intent of a call that leaves."""


@pytest.fixture
def brief(valkey_url: str) -> Settings:
    """Ended records live less long than tombstones."""
    return Settings.load(env="test", redis_url=valkey_url, record_ttl=60)


async def test_an_accepted_job_is_scheduled_before_it_is_published(redis: Redis) -> None:
    draft, later = a_draft(), a_draft(send_at=ahead(hours=3))
    answer = await enqueue(redis, draft)
    assert answer.created
    assert answer.wakeup is not None
    assert await state(redis, draft) == "queued"
    assert await places(redis, draft) == {"woken": answer.wakeup.at}
    assert await redis.pttl(keys.job(draft.id)) > 0
    answer = await enqueue(redis, later)
    assert (answer.created, answer.wakeup) == (True, None), "it is not woken now"
    assert await places(redis, later) == {"schedule": later.due}


@pytest.mark.parametrize(("waits", "woken"), [(State.SNOOZED, 1), (State.RETRYING, 0)])
async def test_news_ends_a_wait_for_it_and_no_pause_after_a_failure(
    redis: Redis, waits: State, woken: int
) -> None:
    job = await queued(redis)
    due = await server_time(redis) + 60_000
    await redis.hset(keys.job(job.id), mapping={"state": waits, "due": due})
    assert await scripts.run_async(redis, record.wake(job.id)) == woken
    assert (int(await redis.hget(keys.job(job.id), "due")) < due) == bool(woken)


async def test_a_clock_step_back_does_not_delay_a_wakeup(redis: Redis, records: Records) -> None:
    """It is the only one of its job: nothing would look at that again until the clock has come back."""
    draft = await queued(redis)
    later = await server_time(redis) + 3_600_000
    await redis.hset(keys.job(draft.id), mapping=dict.fromkeys(("due", "woken", "created"), later))
    await redis.zadd(keys.woken(draft.queue), {draft.id: later})
    claim = await claimed(records, draft, woken=later)
    assert await records.park(claim, State.SNOOZED, delay=60, usage=Usage())
    assert (await records.claim(a_wakeup(draft, woken=later))).verdict == "early"


async def test_the_same_key_is_one_job_and_another_payload_a_conflict(redis: Redis) -> None:
    first, again = a_draft(idempotency_key="k"), a_draft(idempotency_key="k")
    other = a_draft(idempotency_key="k", lane="bulk")
    assert first.id == again.id == other.id
    assert (await enqueue(redis, first)).created
    repeated = await enqueue(redis, again)
    assert not repeated.created
    assert not repeated.conflict
    assert repeated.wakeup is None
    assert (await enqueue(redis, other)).conflict


async def test_a_job_that_failed_at_a_worker_of_0_2_0_is_claimed(
    redis: Redis, records: Records
) -> None:
    draft = a_draft()
    await enqueue(redis, draft)
    await redis.hset(keys.job(draft.id), "failures", '{"counts":{"busy":1},"suspects":[]}')
    assert (await claimed(records, draft)).failures == 0


async def test_a_claimed_job_is_busy_for_another_delivery(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    verdict, claim, _ = await records.claim(a_wakeup(draft, nonce="n"))
    assert claim, verdict
    assert (claim.fence, claim.attempts, claim.crashes) == (1, 0, 0)
    assert claim.payload == draft.job
    assert (await records.claim(a_wakeup(draft)))[0] == "busy"
    assert (await records.claim(a_wakeup(draft, nonce="n"))).claim == claim


async def assert_lost(records: Records, claim: Claim) -> None:
    """Nothing that a worker says by this claim counts any more."""
    assert await records.write_intent(claim, NOTE, Usage()) == "lost"
    assert await records.park(claim, State.SNOOZED, delay=1, usage=Usage()) is None
    assert not await records.settle(claim, State.DONE, usage=Usage(), result={})


async def test_an_expired_lease_goes_to_the_next_worker(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    gone = await claimed(records, draft)
    assert await records.write_intent(gone, NOTE, Usage()) == "written"
    await run_out(redis, draft)
    heir = await claimed(records, draft)
    assert (heir.fence, heir.crashes) == (2, 1)
    assert heir.intent == {"step": "call:1", "attempt": 1, "at": 5, "since": 5}
    # The first worker comes back from its pause.
    assert await records.heartbeat([gone, heir]) == {gone.nonce}
    await assert_lost(records, gone)
    assert await state(redis, draft) == "running"
    assert await records.settle(heir, State.DONE, usage=Usage(attempts=1), result={})


async def test_two_claims_with_one_fence_are_not_confused(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    replica = await redis.dump(keys.job(draft.id)) or b""
    first = await claimed(records, draft)
    # Redis fails over to a replica that has not heard of the claim.
    await redis.restore(keys.job(draft.id), 60_000, replica, replace=True)
    second = await claimed(records, draft)
    assert (first.fence, second.fence) == (1, 1)
    assert await records.heartbeat([first, second]) == {first.nonce}
    await assert_lost(records, first)
    assert await records.settle(second, State.DONE, usage=Usage(), result={})


async def test_leases_distinguish_claims_of_one_process(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    leases = Leases(records, lease=30)

    async def held(claim: Claim) -> None:
        with leases.held(claim):
            await asyncio.Event().wait()

    first = asyncio.create_task(held(await claimed(records, draft)))
    await run_out(redis, draft)
    second = asyncio.create_task(held(await claimed(records, draft)))
    await asyncio.sleep(0)
    await leases.beat()
    await asyncio.wait([first])
    assert first.cancelled()
    assert not second.cancelling()
    second.cancel()
    await asyncio.wait([second])


async def test_a_late_call_leaves_nothing_behind(records: Records, redis: Redis) -> None:
    """It was admitted for a day that is over, or its job has expired."""
    draft, claim = await running(redis, records)
    over = await server_time(redis)
    assert await records.write_intent(claim, {"step": "call:1"}, Usage(), until=over) == "late"
    assert await redis.hget(keys.job(draft.id), "intent") is None
    later = over + 60_000
    assert await records.write_intent(claim, {"step": "call:1"}, Usage(), until=later) == "written"


async def test_no_call_leaves_whose_reservation_redis_has_forgotten(
    records: Records, redis: Redis
) -> None:
    """An equal message of another job would not know of it, and a failover loses the last second."""
    draft, claim = await running(redis, records)
    note, admitted = {"step": "call:2"}, {"until": await server_time(redis) + 60_000}
    for reserved in (None, "call:1\ntaken\nreceived\nu1"):
        if reserved:
            await redis.hset(keys.job(draft.id), "reserved", reserved)
        written = await records.write_intent(claim, note, Usage(), **admitted, reserves="call:2")
        assert written == "unreserved"
    assert await redis.hget(keys.job(draft.id), "intent") is None
    await redis.hset(keys.job(draft.id), "reserved", "call:2\ntaken\nreceived\nu1")
    written = await records.write_intent(claim, note, Usage(), **admitted, reserves="call:2")
    assert written == "written"


async def test_a_job_ends_with_its_approval_which_redis_may_have_forgotten(
    records: Records, redis: Redis
) -> None:
    for others in (False, True):
        draft, claim = await running(redis, records)
        instance, other = (
            f"i {draft.id}",
            ApprovalClaims(redis, Settings.load(env="test"), job_id="other"),
        )
        if others:
            assert await other.claim(instance, since=2) is None
        usage = Usage(answered=True, approval=(instance, 1))
        settled = await records.settle(claim, State.DONE, usage=usage, result={"instance": "i"})
        # Where another job found it in between, this one looks for its own.
        assert settled is not others
        assert await state(redis, draft) == (State.RUNNING if others else State.DONE)
        assert await other.free([instance]) == ([instance] if others else [])


async def test_a_cancelled_job_makes_no_further_call(redis: Redis, records: Records) -> None:
    draft, claim = await running(redis, records)
    assert await records.write_intent(claim, NOTE, Usage()) == "written"
    await cancel(redis, draft.id)
    # What became of the first call is not known: the way to find out stays open.
    assert await records.write_intent(claim, NOTE, Usage()) == "written"
    answered = Usage(answered=True, steps={"call:1": {"task_id": 7}})
    following = {**NOTE, "step": "call:2"}
    assert await records.write_intent(claim, following, answered) == "cancelled"
    parked = await records.park(claim, State.SNOOZED, delay=0, usage=answered)
    assert parked == State.CANCELLED
    assert await redis.hget(keys.job(draft.id), "step:call:1") is not None


async def withdraw(redis: Redis, job_id: str) -> bytes:
    """Cancel a job whose work another one carries on: the state that it has then."""
    return await scripts.run_async(redis, record.withdraw(job_id, record_ttl_ms=60_000))


@pytest.mark.parametrize("waits", [True, False], ids=["waits", "runs"])
@pytest.mark.parametrize(
    ("called", "end", "ended"),
    [
        (False, cancel, State.CANCELLED),
        (True, cancel, State.UNKNOWN),
        (True, withdraw, State.CANCELLED),
    ],
    ids=["cancelled", "cancelled after its call", "withdrawn after its call"],
)
async def test_a_cancelled_job_is_unknown_only_after_its_call(
    redis: Redis, records: Records, called: bool, end: Any, ended: State, waits: bool
) -> None:
    draft, claim = await running(redis, records)
    if called:
        assert await records.write_intent(claim, NOTE, Usage()) == "written"
    if waits:
        await records.park(claim, State.RETRYING, delay=60, usage=Usage())
        assert await end(redis, draft.id) == ended.encode()
    else:
        assert await end(redis, draft.id) == b"running"
        assert await records.park(claim, State.RETRYING, delay=60, usage=Usage()) == ended
    assert await places(redis, draft) == {}
    assert await redis.zcard(keys.DEAD) == (ended is State.UNKNOWN)
    if ended is State.UNKNOWN:
        error = json.loads(await redis.hget(keys.job(draft.id), "error") or b"")
        assert (error["class"], error["code"]) == ("unknown", "cancelled")


async def test_a_lost_worker_is_charged_to_the_open_call(redis: Redis, records: Records) -> None:
    draft = await queued(redis)
    assert await records.write_intent(await claimed(records, draft), NOTE, Usage()) == "written"
    await run_out(redis, draft)
    heir = await claimed(records, draft)
    assert (heir.crashes, heir.losses) == (1, 0)
    await run_out(redis, draft)
    heir = await claimed(records, draft)
    assert (heir.crashes, heir.losses) == (1, 1), "no call of that claim had left"
    await records.park(heir, State.SNOOZED, delay=0, usage=Usage())
    back = await claimed(records, draft)
    assert (back.crashes, back.losses) == (0, 0)


async def test_a_wakeup_of_ours_brings_back_nothing(redis: Redis, records: Records) -> None:
    draft = a_draft()
    assert (await records.claim(a_wakeup(draft, woken=1)))[0] == "ended"
    assert await redis.keys("dingrelay:job:*") == []


@pytest.mark.parametrize("fate", ["expired", "discarded", "resolved"])
async def test_no_ended_foreign_job_is_revived(redis: Redis, brief: Settings, fate: str) -> None:
    records, draft = Records(redis, brief), a_draft()
    claim = await claimed(records, draft, woken=0)
    ended = State.DONE if fate == "expired" else State.UNKNOWN
    await records.settle(claim, ended, usage=Usage(attempts=1), error={"code": "x"})
    if fate == "discarded":
        assert await scripts.run_async(redis, record.discard(draft.id)) == 1
    else:
        if fate == "resolved":  # as an unknown one its record lived long, now it does not
            await scripts.run_async(redis, Resolution(draft.id, happened=True).call(brief, by="me"))
        await redis.delete(keys.job(draft.id))  # its time is over
    assert (await records.claim(a_wakeup(draft, woken=0)))[0] == "ended"
    assert await state(redis, draft) == "none"
    ttl = await redis.pttl(keys.tombstone(draft.id))
    assert keys.TOMBSTONE_TTL_MS - 60_000 < ttl <= keys.TOMBSTONE_TTL_MS


@pytest.mark.parametrize("ended", [State.DONE, State.DEAD, State.UNKNOWN])
async def test_long_records_have_no_tombstone(redis: Redis, records: Records, ended: State) -> None:
    draft = a_draft()
    claim = await claimed(records, draft, woken=0)
    await records.settle(claim, ended, usage=Usage(attempts=1))
    assert not await redis.exists(keys.tombstone(draft.id))
    assert await redis.pttl(keys.job(draft.id)) > keys.TOMBSTONE_TTL_MS - 60_000
    assert (await records.claim(a_wakeup(draft, woken=0)))[0] == "ended"


async def test_a_cancelled_foreign_job_has_a_tombstone(redis: Redis, brief: Settings) -> None:
    records = Records(redis, brief)
    waiting, running = a_draft(send_at=ahead(hours=1)), a_draft()
    assert (await records.claim(a_wakeup(waiting, woken=0)))[0] == "early"
    claim = await claimed(records, running, woken=0)
    for draft in (waiting, running):
        await cancel(redis, draft.id)
    await records.park(claim, State.SNOOZED, delay=1, usage=Usage())
    for draft in (waiting, running):
        assert await state(redis, draft) == "cancelled"
        assert await redis.exists(keys.tombstone(draft.id))


async def test_a_discarded_jobs_key_is_free(redis: Redis, records: Records) -> None:
    draft, claim = await running(redis, records, idempotency_key="k")
    await records.settle(claim, State.DEAD, usage=Usage())
    assert await scripts.run_async(redis, record.discard(draft.id)) == 1
    assert (await enqueue(redis, draft)).created
    assert not await redis.exists(keys.tombstone(draft.id))


async def test_a_requeued_job_keeps_its_future_times(redis: Redis, records: Records) -> None:
    later = a_draft(send_at=ahead(days=1), expires_at=ahead(days=1, hours=1))
    over = a_draft(expires_at=ahead(hours=-1))
    for draft in (later, over):
        await enqueue(redis, draft)
        await cancel(redis, draft.id)
        assert await scripts.run_async(redis, record.requeue(draft.id)) == b"cancelled"
    assert (await records.claim(a_wakeup(later)))[0] == "early"
    assert await places(redis, later) == {"schedule": later.due}
    assert await redis.hget(keys.job(later.id), "expires") is not None
    assert not (await claimed(records, over)).expired


@pytest.mark.parametrize("ahead_seconds", [-7200, 7200])
async def test_expiry_is_by_the_clock_of_redis(
    redis: Redis, records: Records, monkeypatch: pytest.MonkeyPatch, ahead_seconds: int
) -> None:
    clock, soon = time.time, a_draft(expires_at=ahead(hours=1))
    monkeypatch.setattr(time, "time", lambda: clock() + ahead_seconds)
    never, epoch = a_draft(), a_draft(expires_at="1970-01-01T00:00:00Z")
    expired: list[bool] = []
    for draft in (never, epoch, soon):
        await enqueue(redis, draft)
        claim = await claimed(records, draft)
        assert abs(claim.time.at - await server_time(redis)) < 60_000
        expired.append(claim.expired)
    assert expired == [False, True, False]


async def test_a_requeue_accepts_a_lost_call(redis: Redis, records: Records) -> None:
    draft, claim = await running(redis, records, on_unknown="stop")
    assert await records.write_intent(claim, NOTE, Usage()) == "written"
    assert await records.settle(claim, State.UNKNOWN, usage=Usage(attempts=8), error={"code": "x"})
    assert await redis.zscore(keys.DEAD, draft.id) is not None
    assert await scripts.run_async(redis, record.requeue(draft.id)) == b"unknown"
    assert await redis.zscore(keys.DEAD, draft.id) is None
    claim = await claimed(records, draft)
    assert (claim.requeued, claim.attempts) == (True, 0)
    assert claim.intent is not None
    # The answer to the next call may get lost as well: that is for the next one to accept.
    assert await records.write_intent(claim, NOTE, Usage()) == "written"
    await run_out(redis, draft)
    assert not (await claimed(records, draft)).requeued


async def test_a_message_without_a_record_makes_one(redis: Redis, records: Records) -> None:
    draft = a_draft(lane="urgent")
    claim = await claimed(records, draft, woken=0)
    assert (claim.lane, claim.payload) == ("urgent", draft.job)
    assert (claim.batch_key, claim.recipients) == (draft.batch_key, 1), "it shares calls, too"
    assert await redis.zscore(keys.RECENT, draft.id) is not None


async def test_a_taken_task_id_is_logged(redis: Redis, records: Records) -> None:
    draft = a_draft()
    other = a_draft(to={"users": ["u2"]})._replace(id=draft.id)
    await claimed(records, draft, woken=0)
    with capture_logs() as lines:
        assert (await records.claim(a_wakeup(draft, woken=0))).verdict == "busy"
        assert lines == []
        assert (await records.claim(a_wakeup(other, woken=0))).verdict == "busy"
    assert [(line["event"], line["id"]) for line in lines] == [("task_id_taken", draft.id)]


@pytest.mark.parametrize("passed", [1_001, -3_600_000], ids=["a second", "an hour back"])
async def test_the_newest_jobs_are_trimmed(redis: Redis, passed: int) -> None:
    older = {f"old{number}": number for number in range(keys.RECENT_JOBS)}
    await redis.zadd(keys.RECENT, older)
    await redis.pexpire(keys.RECENT, keys.RECENT_TTL_MS - passed)
    draft = await queued(redis)
    assert await redis.zcard(keys.RECENT) == keys.RECENT_JOBS
    assert await redis.zscore(keys.RECENT, draft.id) is not None
    assert await redis.pttl(keys.RECENT) <= keys.RECENT_TTL_MS


async def test_a_full_redis_lets_no_job_be_claimed(redis: Redis, records: Records) -> None:
    drafts = await several(redis, 4)
    claim = await claimed(records, drafts.pop())  # its queue has been noted just now
    turns = Turns("default", "message.send", "normal")
    late = {"state": "snoozed", "turn": turns.in_turn}
    await redis.hset(keys.job(drafts[0].id), mapping=late)
    await redis.zadd(turns.in_turn, {drafts[0].id: 1})
    await redis.pexpire(turns.in_turn, 60_000)
    before = [await places(redis, draft) for draft in drafts]
    await redis.config_set("maxmemory", 1)
    try:
        for some in (drafts[:1], drafts):
            calls = [records.claim(a_wakeup(draft)) for draft in some]
            refused = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(each) for each in refused] == [OutOfMemoryError] * len(some)
        with pytest.raises(OutOfMemoryError):
            await records.claim_late(turns, claim.queue, nonce="n", most=9, late=0)
    finally:
        await redis.config_set("maxmemory", 0)
    assert [await places(redis, draft) for draft in drafts] == before
    assert await redis.zcard(claim.batch_key) == len(drafts)


async def test_a_foreign_job_may_wait_on_the_schedule(redis: Redis, records: Records) -> None:
    later = datetime.now(UTC) + timedelta(minutes=5)
    draft = a_draft(send_at=later.isoformat())
    assert (await records.claim(a_wakeup(draft, woken=0)))[0] == "early"
    assert await state(redis, draft) == "queued"
    assert await places(redis, draft) == {"schedule": int(later.timestamp() * 1000)}


async def test_a_settled_job_is_not_run_again(redis: Redis, records: Records) -> None:
    draft, claim = await running(redis, records)
    usage = Usage(attempts=1, answered=True, steps={"call:0": {"task_id": 7}})
    assert await records.settle(claim, State.DONE, usage=usage, result={"accepted": 1})
    assert await records.settle(claim, State.DONE, usage=usage, result={"accepted": 1})
    assert await places(redis, draft) == {}
    assert (await records.claim(a_wakeup(draft)))[0] == "ended"
    fields = await redis.hgetall(keys.job(draft.id))
    assert fields[b"attempts"] == b"1"
    assert json.loads(fields[b"result"]) == {"accepted": 1}


async def test_a_parked_job_keeps_what_it_did_and_waits(redis: Redis, records: Records) -> None:
    draft, claim = await running(redis, records)
    usage = Usage(throttles=1, steps={"call:0": {"task_id": 7}})
    parked = await records.park(claim, State.SNOOZED, delay=60, usage=usage, waiting=123)
    assert parked == State.SNOOZED
    assert (await records.claim(a_wakeup(draft)))[0] == "early"
    await redis.hset(keys.job(draft.id), "due", 0)
    back = await claimed(records, draft)
    assert (back.throttles, back.attempts, back.waiting) == (1, 0, 123)
    assert back.steps == {"call:0": {"task_id": 7}}


async def waiting(redis: Redis, draft: Draft) -> list[str]:
    jobs: Any = await redis.zrange(draft.batch_key, 0, -1)
    return [job.decode() for job in jobs]


async def enqueued(redis: Redis, *jobs: dict[str, Any]) -> list[Draft]:
    drafts = [a_draft(**job) for job in jobs]
    for draft in drafts:
        await enqueue(redis, draft)
        # One millisecond can see many jobs; here they have an order.
        await redis.zadd(draft.batch_key, {draft.id: len(await waiting(redis, draft))}, xx=True)
    return drafts


def to(*users: str, **fields: Any) -> dict[str, Any]:
    return {"to": {"users": list(users)}, **fields}


async def claim_batch(
    redis: Redis, records: Records, draft: Draft, *, room: int = 100, **more: Any
) -> tuple[list[Claim], Claim | None]:
    return await records.claim_batch(
        draft.batch_key, nonce="call", room=room, lane="normal", **more
    )


async def test_a_job_waits_for_a_batch_until_claimed(redis: Redis, records: Records) -> None:
    first, cancelled, scheduled = await enqueued(
        redis, to("u1"), to("u2"), to("u3", send_at=ahead(hours=1))
    )
    alone = await queued(redis, confirm=True)
    assert alone.batch_key == ""
    assert await waiting(redis, first) == [first.id, cancelled.id]
    assert 0 < await redis.pttl(first.batch_key) <= keys.WAITING_TTL_MS
    await cancel(redis, cancelled.id)
    assert await waiting(redis, first) == [first.id]
    claim = await claimed(records, first)
    assert (claim.batch_key, claim.recipients) == (first.batch_key, 1)
    assert not await redis.exists(first.batch_key)
    assert scheduled.batch_key == first.batch_key


@pytest.mark.parametrize(
    ("state_after", "since", "alone", "waits"),
    [
        (State.SNOOZED, 123, False, True),
        (State.QUEUED, 0, False, True),
        (State.QUEUED, 0, True, False),
        (State.SNOOZED, 0, False, False),
        (State.RETRYING, 0, False, False),
    ],
)
async def test_only_a_job_that_waits_for_a_limit_waits_for_a_call_again(
    redis: Redis, records: Records, state_after: State, since: int, alone: bool, waits: bool
) -> None:
    draft, claim = await running(redis, records)
    await records.park(claim, state_after, delay=0, usage=Usage(), waiting=since, alone=alone)
    assert await waiting(redis, draft) == [draft.id] * waits
    claim = await claimed(records, draft)
    assert (claim.batch_key == "", claim.shared == "") == (alone, alone)


async def test_a_claimed_member_is_not_blamed_for_a_crash(redis: Redis, records: Records) -> None:
    first, second = await enqueued(redis, to("u1"), to("u2"))
    jobs, _ = await claim_batch(redis, records, first)
    assert [claim.id for claim in jobs] == [first.id, second.id]
    await run_out(redis, second)
    heir = await claimed(records, second)
    assert (heir.fence, heir.crashes) == (2, 0)
    await run_out(redis, second)
    assert (await claimed(records, second)).losses == 1, "it ran by itself"


async def test_a_batch_claims_the_oldest_that_fit(redis: Redis, records: Records) -> None:
    drafts = await enqueued(
        redis, to("u1"), to("u2", "u3", "u4"), to("u5", "u6"), to("u7", lane="bulk"), to("u8")
    )
    jobs, following = await claim_batch(redis, records, drafts[0], room=4)
    assert [claim.id for claim in jobs] == [drafts[0].id, drafts[1].id]
    assert following
    assert following.id == drafts[2].id
    assert await waiting(redis, drafts[0]) == [drafts[3].id, drafts[4].id]
    for claim in [*jobs, following]:
        assert (claim.fence, claim.attempts) == (1, 0)
        assert claim.waiting
        lease = float(await redis.hget(keys.job(claim.id), "lease") or 0)
        assert await redis.zscore(keys.RUNNING, claim.id) == lease
        assert await records.settle(claim, State.DONE, usage=Usage(attempts=1), result={})
    assert len({claim.nonce for claim in [*jobs, following]}) == 3
    assert await records.claim(a_wakeup(drafts[0])) == ("ended", None, drafts[0].batch_key)


async def test_the_next_caller_is_of_the_same_lane(redis: Redis, records: Records) -> None:
    drafts = await enqueued(redis, to("u1", lane="bulk"), to("u2", lane="urgent"), to("u3"))
    jobs, following = await claim_batch(redis, records, drafts[0], room=0)
    assert jobs == []
    assert following
    assert following.id == drafts[2].id
    assert (await claim_batch(redis, records, drafts[0], room=5))[1] is None


async def test_a_batch_takes_only_eligible_jobs(redis: Redis, records: Records) -> None:
    parked, retrying, running, expired, gone = await enqueued(
        redis, *(to(f"u{n}") for n in range(3)), to("u3", expires_at=ahead(seconds=-1)), to("u4")
    )
    claim = await claimed(records, parked)
    await records.park(claim, State.SNOOZED, delay=60, usage=Usage(), waiting=1)
    claim = await claimed(records, retrying)
    await records.park(claim, State.RETRYING, delay=60, usage=Usage())
    await claimed(records, running)
    await redis.delete(keys.job(gone.id))
    # Entries that say otherwise than the records are dropped.
    await redis.zadd(parked.batch_key, {retrying.id: 1, running.id: 2})
    jobs, _ = await claim_batch(redis, records, parked)
    assert [claim.id for claim in jobs] == [parked.id]
    assert jobs[0].waiting == 1
    assert await waiting(redis, parked) == []
    states = [await state(redis, draft) for draft in (retrying, running, expired)]
    assert states == ["retrying", "running", "queued"]
    # Its own wake-up ends the expired one.
    assert (await records.claim(a_wakeup(expired)))[0] == "claimed"


async def test_a_batch_claims_within_the_bucket(redis: Redis, records: Records) -> None:
    rule = Rule("app:default", "message.send", "recipients", 101, 1000)
    drafts = await enqueued(redis, to("u1", "u2"), to("u3", "u4"), *(to(f"v{n}") for n in range(9)))
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    await redis.hset(rule.key, mapping={"balance": "5.5", "at": now})
    await redis.pexpire(rule.key, 60_000)
    jobs, following = await claim_batch(redis, records, drafts[0], bucket=rule)
    assert [claim.id for claim in jobs] == [draft.id for draft in drafts[:3]]
    assert following is None
    assert 0.5 <= float(await redis.hget(rule.key, "balance") or 0) < 1
    assert (await claim_batch(redis, records, drafts[0], bucket=rule))[0] == []
    assert len(await waiting(redis, drafts[0])) == 8


APPROVAL = ApprovalCreate.parse({"process_code": "P", "originator": "u1", "form": {"事由": "x"}})


@pytest.mark.parametrize(
    ("job", "step"),
    [
        (APPROVAL, "create"),
        (ApprovalDecide(instance="i", user="u1", decision="agree"), "decide"),
    ],
    ids=["approval-create", "approval-decide"],
)
async def test_an_approval_from_before_a_failover_is_looked_for_first(
    redis: Redis, records: Records, job: Contract, step: str
) -> None:
    """The failover lost its claim and the note of its call."""
    draft = record.draft(job)
    await enqueue(redis, draft)
    undisturbed = await claimed(records, draft)
    assert undisturbed.intent is None
    await records.park(undisturbed, State.QUEUED, delay=0, usage=Usage())
    await redis.hset(keys.job(draft.id), "history", "0" * 40)
    claim = await claimed(records, draft)
    assert claim.intent == {"step": step, "at": claim.time.at, "since": claim.created}
    # It is found not to exist, and is not looked for again.
    await records.park(claim, State.QUEUED, delay=0, usage=Usage(answered=True))
    assert (await claimed(records, draft)).intent is None


async def test_an_approval_that_was_made_is_not_looked_for(redis: Redis, records: Records) -> None:
    draft = record.draft(APPROVAL)
    await enqueue(redis, draft)
    made = Usage(steps={"create": {"instance_id": "i"}})
    await records.park(await claimed(records, draft), State.QUEUED, delay=0, usage=made)
    await redis.hset(keys.job(draft.id), "history", "0" * 40)
    assert (await claimed(records, draft)).intent is None


async def test_concurrent_jobs_share_commands(redis: Redis, records: Records) -> None:
    async def commands() -> int:
        return int((await redis.info("stats"))["total_commands_processed"])

    async def life(draft: Draft) -> None:
        claim = await claimed(records, draft)
        assert await records.write_intent(claim, {"step": "call:1"}, Usage()) == "written"
        usage = Usage(answered=True, steps={"call:1": {}})
        assert await records.settle(claim, State.DONE, usage=usage)

    count = 2 * scripts.CALLS_TOGETHER
    drafts = await several(redis, count + 2)
    await asyncio.gather(life(drafts.pop()), life(drafts.pop()))  # Redis learns the scripts
    before = await commands()
    await asyncio.gather(*map(life, drafts))
    # Of each 3 to claim it, 2 for its intent, 5 to settle it; of all that go together, what they share.
    assert await commands() - before <= 10 * count + 2 * (7 + 2 + 4) + 4
    assert {await state(redis, draft) for draft in drafts} == {"done"}
    assert not await redis.exists(keys.RUNNING, keys.woken(drafts[0].queue))
