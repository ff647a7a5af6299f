"""Jobs of one content share calls: one worker's resources, a real Valkey and the sandbox."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_sandbox.admin import Row, SandboxAdmin
from dingrelay_tasks.kinds import Kind
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.limiter.slot import Slot, SlotRequest
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.records import Claim
from support.jobs import a_wakeup, cancel, message
from support.outages import eventually
from support.sandboxes import sandbox_settings

SEND = "/topapi/message/corpconversation/asyncsend_v2"
SLOW = {"*": {"calls": "5/2s"}, "message.send": {"recipients": ""}}
"""Two thirds of a second between slots."""
NEVER = {"*": {"calls": "2/100s"}, "message.send": {"recipients": ""}}
"""After the first slot none comes within a test."""
FEW = {"*": {"calls": "2/4s"}, "message.send": {"recipients": "101/36000s"}}
"""A hundred recipients, and hardly any more within a test."""

Running = asyncio.Task[Outcome | None]


@dataclass
class EventLog:
    """The runs that an executor has reported."""

    began_ids: list[str] = field(default_factory=list)
    ends: list[tuple[str, State]] = field(default_factory=list)

    def began(self, kind: Kind, claim: Claim) -> None:
        self.began_ids.append(claim.id)

    def ended(
        self, kind: Kind, claim: Claim, outcome: Outcome, state: State, seconds: float
    ) -> None:
        assert seconds > 0
        self.ends.append((claim.id, state))


class Office:
    """A worker, jobs that wait in Redis, and wake-ups that the test hands over."""

    def __init__(
        self, executor: Executor, redis: Redis, sandbox: SandboxAdmin, log: EventLog
    ) -> None:
        self.executor = executor
        self.log = log
        self.resources = executor.resources
        self.redis = redis
        self.sandbox = sandbox

    async def enqueue(self, *users: str, text: str = "同文", **fields: Any) -> Draft:
        """A job in the queue, whose wake-up no worker has taken yet."""
        draft = record.draft(message(*users, text=text, **fields))
        await scripts.run_async(self.redis, record.enqueue(draft))
        return draft

    async def enqueue_each(self, *numbers: int, **fields: Any) -> list[Draft]:
        """A job to each of these people."""
        return [await self.enqueue(f"u{number}", **fields) for number in numbers]

    async def waiting(self, *numbers: int) -> tuple[list[Draft], list[Running]]:
        """Jobs to these people, and their runs, which wait for the slot of their one call."""
        drafts = await self.enqueue_each(*numbers)
        await self.take_the_slot()
        running = [self.wake(draft) for draft in drafts]
        await self.waits_for(len(drafts))
        return drafts, running

    def wake(self, draft: Draft) -> Running:
        """Hand over the job's wake-up."""
        return asyncio.create_task(self.executor.execute(a_wakeup(draft)))

    async def take_the_slot(self) -> None:
        """One call leaves at once; the next waits for 0.4 s: what shall wait is enqueued before."""
        await self.wake(await self.enqueue("u200", text="先行"))

    async def waits_for(self, recipients: int) -> None:
        """Return once a call to so many recipients waits for its slot."""
        batches: Any = self.resources.batches
        await eventually(
            lambda: any(each.request.recipients == recipients for each in batches._open.values())
        )

    async def status(self, draft: Draft) -> JobStatus:
        found: Any = await self.redis.hgetall(keys.job(draft.id))
        return JobStatus.from_record(draft.id, found)

    async def ended(self, drafts: Sequence[Draft]) -> list[JobStatus]:
        """The statuses, once all have ended."""

        async def all_ended() -> bool:
            return all([(await self.status(draft)).state.ended for draft in drafts])

        await eventually(all_ended)
        return [await self.status(draft) for draft in drafts]

    def calls(self) -> list[Row]:
        return self.sandbox.calls(api=SEND)

    async def index(self, draft: Draft) -> list[str]:
        found: list[Any] = await self.redis.zrange(draft.batch_key, 0, -1)
        return [job.decode() for job in found]


OpenOffice = Callable[..., Awaitable[Office]]


@pytest.fixture
async def opened(sandbox: SandboxAdmin, valkey_url: str, redis: Redis) -> AsyncIterator[OpenOffice]:
    """Open one more worker, with its rules."""
    sandbox.set_limits(calls="", recipients="")
    async with AsyncExitStack() as stack:

        async def open_office(rules: dict[str, dict[str, str]] = SLOW, **settings: Any) -> Office:
            loaded = sandbox_settings(sandbox.base_url, valkey_url, rules=rules, **settings)
            resources = Resources(loaded, Publisher(loaded), concurrency=64)
            await stack.enter_async_context(resources)
            log = EventLog()
            executor = await stack.enter_async_context(Executor(resources, log))
            return Office(executor, redis, sandbox, log)

        yield open_office


@pytest.fixture
async def office(opened: OpenOffice) -> Office:
    return await opened()


def task_ids(statuses: Sequence[JobStatus]) -> set[int]:
    return {call["task_id"] for status in statuses for call in (status.result or {})["calls"]}


async def test_a_job_that_did_not_wait_pays_nothing(office: Office, redis: Redis) -> None:
    async def scripts_of(draft: Draft) -> int:
        await asyncio.sleep(0.7)  # the slot is there again
        before = await scripts_run(redis)
        await office.wake(draft)
        return await scripts_run(redis) - before

    await office.take_the_slot()
    shared, waiting = await office.enqueue("u1"), await office.enqueue("u2")
    alone = await office.enqueue("u3", text="独", on_unknown="stop")
    assert alone.batch_key == ""
    assert await scripts_of(shared) == await scripts_of(alone) == 5
    assert (await office.status(waiting)).state == State.QUEUED
    assert await office.index(waiting) == [waiting.id]


async def scripts_run(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "eval"))


async def test_jobs_that_wait_in_one_worker_share_a_call(office: Office) -> None:
    drafts = [await office.enqueue(f"u{number}", f"u{number + 50}") for number in range(1, 31)]
    await office.take_the_slot()
    outcomes = await asyncio.gather(*map(office.wake, drafts))
    assert {outcome.state for outcome in outcomes if outcome} == {State.DONE}
    statuses = await office.ended(drafts)
    assert len(office.calls()) == 2
    assert len(task_ids(statuses)) == 1
    assert [(status.result or {})["accepted"] for status in statuses] == [2] * 30
    assert {status.attempts for status in statuses} == {1}
    assert office.sandbox.audit()["delivered"] == 61


async def test_a_slot_that_comes_without_a_token_is_left(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls that waited for a token with their slots would leave in a burst."""
    slots: list[Slot] = []
    acquire = office.resources.limiter.acquire

    async def acquire_without_token(request: SlotRequest) -> Slot:
        slot = await acquire(request)
        if not slots:
            cast("Any", office.resources.tokens)._held.clear()
        slots.append(slot)
        return slot

    monkeypatch.setattr(office.resources.limiter, "acquire", acquire_without_token)
    await office.wake(await office.enqueue("u1"))
    assert [slot.sent for slot in slots] == [False, True]
    assert len(office.calls()) == 1


async def test_a_call_that_waited_takes_along_who_waits_in_any_queue(office: Office) -> None:
    lanes = ("urgent", "normal", "bulk")
    drafts = [
        await office.enqueue(f"u{number}", lane=lanes[number % 3]) for number in range(1, 151)
    ]
    await office.take_the_slot()
    # One wake-up is enough: the first call is full, and what is left over makes the second.
    await office.wake(drafts[0])
    statuses = await office.ended(drafts)
    assert {(status.state, status.attempts) for status in statuses} == {(State.DONE, 1)}
    assert len(task_ids(statuses)) == len(office.calls()) - 1 == 2
    assert office.sandbox.audit()["delivered"] == 151
    assert office.sandbox.audit()["dropped"] == {}
    assert await office.index(drafts[0]) == []
    # Each run is reported once, as that of its own job, and a wake-up that finds nothing to do is none.
    log = office.log
    await eventually(lambda: len(log.ends) == 151)
    late = await asyncio.gather(*map(office.wake, drafts))
    assert late == [None] * 150
    assert sorted(log.began_ids) == sorted(job for job, _ in log.ends)
    assert set(log.ends) >= {(draft.id, State.DONE) for draft in drafts}
    assert len(set(log.began_ids)) == len(log.began_ids) == 151


async def test_an_urgent_job_takes_bulk_along_and_waits_for_none(office: Office) -> None:
    bulk = await office.enqueue_each(1, 2, 3, lane="bulk")
    urgent = await office.enqueue("u4", lane="urgent")
    waiting = await office.enqueue("u5", lane="bulk")
    await office.take_the_slot()
    running = [office.wake(draft) for draft in bulk]
    await office.waits_for(3)
    await office.wake(urgent)
    await asyncio.gather(*running)
    statuses = await office.ended([urgent, waiting, *bulk])
    assert len(task_ids(statuses[:2])) == 1
    assert len(task_ids(statuses[2:])) == 1
    assert len(office.calls()) == 3
    assert task_ids(statuses[:2]) == {min(task_ids(statuses))}, "the urgent call left first"


async def test_the_wakeup_of_a_job_that_a_batch_claimed_is_not_wasted(office: Office) -> None:
    first = await office.enqueue("u1")
    await office.wake(first)
    waiting = await office.enqueue_each(*range(2, 12))
    assert await office.wake(first) is None
    statuses = await office.ended(waiting)
    assert {status.state for status in statuses} == {State.DONE}
    assert len(office.calls()) == 2


async def test_an_ineligible_job_does_not_affect_others(office: Office, redis: Redis) -> None:
    had = await office.enqueue("u9")
    await office.wake(had)
    good = await office.enqueue_each(*range(1, 5))
    soon = datetime.now(UTC) + timedelta(milliseconds=100)
    expired = await office.enqueue("u5", expires_at=soon.isoformat())
    cancelled = await office.enqueue("u6")
    again = await office.enqueue("u9")
    assert await cancel(redis, cancelled.id) == b"cancelled"
    assert cancelled.id not in await office.index(cancelled)
    await eventually(lambda: datetime.now(UTC) > soon)

    running = office.wake(good[0])
    statuses = await office.ended([*good, again])
    await running
    assert [status.state for status in statuses] == [State.DONE] * 4 + [State.DUPLICATE]
    assert (statuses[-1].result or {})["duplicate"] == ["u9"]
    assert len(task_ids(statuses[:4])) == 1
    await office.wake(expired)
    assert (await office.status(expired)).state == State.EXPIRED
    assert (await office.status(cancelled)).state == State.CANCELLED
    assert office.sandbox.audit()["delivered"] == 5


async def test_a_refused_call_is_tried_again_one_job_at_a_time(office: Office) -> None:
    drafts = await office.enqueue_each(*range(1, 3))
    await office.take_the_slot()
    office.sandbox.add_fault("error", api=SEND, code="33012", count=1)
    office.sandbox.add_fault("error", api=SEND, code="33012", match={"userid_list": "u2"})
    outcomes = await asyncio.gather(*map(office.wake, drafts))
    found = [(outcome.state, outcome.attempts) for outcome in outcomes if outcome]
    assert found == [(State.QUEUED, 0)] * 2
    assert await office.index(drafts[0]) == []
    for draft in drafts:
        assert not await office.redis.hexists(keys.job(draft.id), "intent")

    await asyncio.gather(*map(office.wake, drafts))
    statuses = await office.ended(drafts)
    ends = [(status.state, status.attempts) for status in statuses]
    assert ends == [(State.DONE, 1), (State.DEAD, 1)]
    assert [call["recipients"] for call in (statuses[0].result or {})["calls"]] == [1]
    assert len(office.calls()) == 4


async def test_a_throttle_reaches_every_job_and_costs_none_an_attempt(office: Office) -> None:
    drafts = await office.enqueue_each(*range(1, 6))
    await office.take_the_slot()
    office.sandbox.add_fault("throttle", api=SEND, code="90018", count=1)
    await office.wake(drafts[0])
    await eventually(lambda: all_snoozed(office, drafts))
    statuses = [await office.status(draft) for draft in drafts]
    assert {(status.attempts, status.throttles) for status in statuses} == {(0, 1)}
    assert set(await office.index(drafts[0])) == {draft.id for draft in drafts}
    assert [state.throttles for state in await office.resources.limiter.states() if state.throttles]


async def all_snoozed(office: Office, drafts: Sequence[Draft]) -> bool:
    return {(await office.status(draft)).state for draft in drafts} == {State.SNOOZED}


async def test_an_answer_that_was_lost_is_repeated_for_every_job(office: Office) -> None:
    drafts = await office.enqueue_each(*range(1, 4))
    await office.take_the_slot()
    office.sandbox.add_fault("lost_answer", api=SEND, count=1)
    outcomes = await asyncio.gather(*map(office.wake, drafts))
    assert {outcome.state for outcome in outcomes if outcome} == {State.RETRYING}
    for draft in drafts:
        assert await office.redis.hexists(keys.job(draft.id), "intent")
        await office.redis.hset(keys.job(draft.id), "due", "0")
    await asyncio.gather(*map(office.wake, drafts))
    statuses = await office.ended(drafts)
    assert {(status.state, status.attempts) for status in statuses} == {(State.DONE, 2)}
    # DingTalk drops what they have already (API §2.1).
    assert office.sandbox.audit()["delivered"] == 4


async def test_a_call_that_gets_no_slot_in_time_is_parked_as_one(opened: OpenOffice) -> None:
    office = await opened(NEVER, max_wait=100)
    drafts, running = await office.waiting(*range(1, 31))
    await office.resources.limiter.throttled(
        "default", "message.send", pause=600, everything=False, reason="90018"
    )
    outcomes = await asyncio.gather(*running)
    assert {(o.state, o.attempts) for o in outcomes if o} == {(State.SNOOZED, 0)}
    assert len({o.delay for o in outcomes if o}) == 1
    assert len(await office.index(drafts[0])) == 30
    (horizon,) = [s.horizon for s in await office.resources.limiter.states() if s.horizon]
    assert horizon < datetime.now(UTC) + timedelta(seconds=1200), "one call's place, not thirty"


async def test_a_call_with_a_distant_slot_leaves_the_worker(opened: OpenOffice) -> None:
    office = await opened(NEVER)
    await office.take_the_slot()
    outcome = await office.wake(await office.enqueue("u1"))
    assert outcome
    assert (outcome.state, outcome.attempts) == (State.SNOOZED, 0)
    assert outcome.delay > office.resources.settings.max_wait
    urgent = office.wake(await office.enqueue("u2", lane="urgent"))
    await office.waits_for(1)
    office.resources.drain()
    assert await urgent
    assert len(office.calls()) == 1


async def test_a_worker_that_stops_gives_all_of_them_back(opened: OpenOffice) -> None:
    office = await opened(NEVER, max_wait=100)
    drafts, running = await office.waiting(*range(1, 6))
    office.resources.drain()
    outcomes = await asyncio.gather(*running)
    assert {outcome.state for outcome in outcomes if outcome} == {State.QUEUED}
    assert len(await office.index(drafts[0])) == 5
    assert len(office.calls()) == 1


async def test_recipients_are_limited(opened: OpenOffice, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a machine that stands still for a moment the slot would be too old, and paid for again.
    monkeypatch.setattr("dingrelay_workers.limiter.limiter.JITTER", 60)
    monkeypatch.setattr("dingrelay_workers.calls.batch.JITTER", 60)
    office = await opened(FEW)
    rule = office.resources.limiter.recipients_rule("default", "message.send")
    assert rule
    drafts = await office.enqueue_each(*range(1, 101))
    await office.take_the_slot()
    await office.redis.hset(rule.key, mapping={"balance": 10, "at": int(time.time() * 1e6)})
    await office.wake(drafts[0])
    left = set(await office.index(drafts[0]))
    await office.ended([draft for draft in drafts if draft.id not in left])
    assert len(left) == 90
    assert office.sandbox.audit()["delivered"] == 1 + 10
    states = await office.resources.limiter.states()
    (balance,) = [state.balance for state in states if state.unit == "recipients"]
    assert 0 <= balance < 0.1


async def test_a_sender_that_is_gone_leaves_the_batch_to_another(office: Office) -> None:
    drafts = await office.enqueue_each(*range(1, 4))
    await office.take_the_slot()
    leader = office.wake(drafts[0])
    await office.waits_for(1)
    others = [office.wake(draft) for draft in drafts[1:]]
    await office.waits_for(3)
    leader.cancel()
    outcomes = await asyncio.gather(*others)
    assert {outcome.state for outcome in outcomes if outcome} == {State.DONE}
    assert len(office.calls()) == 2
    assert office.sandbox.audit()["delivered"] == 3


async def test_a_job_that_another_worker_took_over_is_left_out(office: Office) -> None:
    drafts, running = await office.waiting(1, 2, 3)
    await office.redis.hincrby(keys.job(drafts[1].id), "fence", 1)
    outcomes = await asyncio.gather(*running)
    assert outcomes[1] is None
    assert [outcome.state for outcome in outcomes if outcome] == [State.DONE] * 2
    assert office.sandbox.audit()["delivered"] == 3
    assert office.sandbox.inbox("u2")["delivered"] == []
