"""Random lives of jobs: whatever happens in whatever order, some things are always true.

Claims are used long after they were lost, messages of both kinds come late and again, workers
vanish, and Redis fails over to an older state.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from dingrelay_producers import State
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.resolution import Resolution
from dingrelay_producers.store.states import ENDS
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store.records import Claim, Records, Usage
from support.jobs import a_draft, a_wakeup, ahead, server_time
from support.workers import run_flow

T = TypeVar("T")

WORKERS = ("w:1:a", "w:2:b")
WAITING = (State.QUEUED, State.SNOOZED, State.RETRYING)
TTL = 60
"""Seconds that ended records live: less than tombstones do."""
NOTE = {"step": "call:1", "attempt": 1}

chosen = st.integers(min_value=0, max_value=1000)
"""Choice among the jobs, claims or messages."""


class Lives(RuleBasedStateMachine):
    """Jobs of a few workers on one Redis."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis = Redis.from_url(self.url)
        self.shared = AsyncRedis.from_url(self.url)
        # Records go at any time after their end: soon, so that tombstones must do.
        self.settings = Settings.load(env="test", redis_url=self.url, record_ttl=TTL)
        self.workers = [Records(self.shared, self.settings, worker=name) for name in WORKERS]
        self.schedule = Schedule(self.shared, self.settings)
        self.presence = Presence(worker="watcher")
        self.drafts: dict[str, Draft] = {}
        self.bare: set[str] = set()
        """Jobs that came as messages of another client."""
        self.over: set[str] = set()
        """Jobs that may not come back by any message."""
        self.claims: list[tuple[Records, Claim]] = []
        self.batch = ""
        self.older: tuple[dict[bytes, tuple[bytes, int]], set[str]] = ({}, set())

    def teardown(self) -> None:
        self.redis.flushall()
        self.redis.close()
        self.run(self.shared.aclose())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def pick(self, number: int) -> Draft:
        return list(self.drafts.values())[number % len(self.drafts)]

    def fields(self, job_id: str) -> dict[str, str]:
        found = self.redis.hgetall(keys.job(job_id))
        return {name.decode(): value.decode() for name, value in found.items()}

    def state(self, job_id: str) -> State | None:
        found = self.redis.hget(keys.job(job_id), "state")
        return State(found.decode()) if found else None

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.enqueue(later=False)

    # What producers and operators do.

    @rule(later=st.booleans())
    def enqueue(self, *, later: bool) -> None:
        draft = a_draft(**({"send_at": ahead(hours=1)} if later else {}))
        scripts.run(self.redis, record.enqueue(draft))
        self.drafts[draft.id] = draft

    @rule(number=chosen, carried_on=st.booleans())
    def cancel(self, number: int, *, carried_on: bool) -> None:
        draft = self.pick(number)
        before = self.fields(draft.id)
        ttl = TTL * 1000
        cancel = record.cancel(draft.id, record_ttl_ms=ttl, dead_ttl_ms=ttl)
        withdraw = record.withdraw(draft.id, record_ttl_ms=ttl)
        after = scripts.run(self.redis, withdraw if carried_on else cancel)
        if before.get("state") in WAITING:
            called = "intent" in before and not carried_on
            assert after == (b"unknown" if called else b"cancelled")

    @rule(number=chosen)
    def requeue(self, number: int) -> None:
        draft = self.pick(number)
        before = self.state(draft.id)
        scripts.run(self.redis, record.requeue(draft.id))
        again = before in {State.DEAD, State.UNKNOWN, State.CANCELLED, State.EXPIRED}
        assert self.state(draft.id) == (State.QUEUED if again else before)

    @rule(number=chosen)
    def discard(self, number: int) -> None:
        draft = self.pick(number)
        if scripts.run(self.redis, record.discard(draft.id)):
            self.over.add(draft.id)

    @rule(number=chosen, happened=st.booleans())
    def resolve(self, number: int, *, happened: bool) -> None:
        draft = self.pick(number)
        before = self.state(draft.id)
        resolution = Resolution(draft.id, happened=happened)
        scripts.run(self.redis, resolution.call(self.settings, by="me"))
        ends = before is State.UNKNOWN and happened
        assert self.state(draft.id) == (State.DONE if ends else before)

    @rule(number=chosen)
    def wake(self, number: int) -> None:
        """The end of what a job waited for, perhaps long after the job. A pause after a failure goes on."""
        draft = self.pick(number)
        before = self.state(draft.id)
        woken = self.run(self.workers[0].wake(draft.id))
        assert woken == (before is State.SNOOZED)
        assert self.state(draft.id) == before

    # What brokers do: any message, of any kind, at any time.

    @rule(worker=st.sampled_from([0, 1]))
    def foreign_message(self, worker: int) -> None:
        draft = a_draft()
        self.drafts[draft.id] = draft
        self.bare.add(draft.id)
        self._deliver(draft, worker, woken=0)

    @rule(worker=st.sampled_from([0, 1]))
    def foreign_message_after_its_discard(self, worker: int) -> None:
        self.foreign_message(worker)
        records, claim = self.claims[-1]
        assert self.run(records.settle(claim, State.UNKNOWN, usage=Usage()))
        assert scripts.run(self.redis, record.discard(claim.id)) == 1
        self.over.add(claim.id)
        self._deliver(self.drafts[claim.id], worker, woken=0)

    @rule(number=chosen, worker=st.sampled_from([0, 1]), repeated=st.booleans())
    def message(self, number: int, worker: int, *, repeated: bool) -> None:
        draft = self.pick(number)
        foreign = repeated and draft.id in self.bare
        self._deliver(draft, worker, woken=0 if foreign else 1)

    def _deliver(self, draft: Draft, worker: int, *, woken: int) -> None:
        before = self.fields(draft.id)
        records = self.workers[worker]
        verdict, claim, _ = self.run(records.claim(a_wakeup(draft, woken=woken)))
        if claim is None:
            assert verdict in {"ended", "busy", "early"}
            return
        if before:
            assert before["state"] in WAITING or int(before["lease"]) <= claim.time.at
            assert claim.fence == int(before.get("fence", 0)) + 1
        else:
            assert woken == 0
        self.claims.append((records, claim))

    # What workers do, with claims that may be lost long since.

    def _claim(self, number: int) -> tuple[Records, Claim, bool] | None:
        if not self.claims:
            return None
        records, claim = self.claims[number % len(self.claims)]
        fields = self.fields(claim.id)
        names = (fields.get("owner"), fields.get("fence"))
        owns = names == (claim.nonce, str(claim.fence))
        return records, claim, owns and fields["state"] == State.RUNNING

    @rule(number=chosen)
    def heartbeat(self, number: int) -> None:
        if held := self._claim(number):
            records, claim, owns = held
            lost = self.run(records.heartbeat([claim]))
            assert lost == (set() if owns else {claim.nonce})

    @rule(number=chosen, answered=st.booleans())
    def note(self, number: int, *, answered: bool) -> None:
        if held := self._claim(number):
            records, claim, owns = held
            before = self.fields(claim.id)
            answer = self.run(records.write_intent(claim, dict(NOTE), Usage(answered=answered)))
            unheard = "cancel" in before and (answered or "intent" not in before)
            assert answer == (("cancelled" if unheard else "written") if owns else "lost")

    @rule(number=chosen, state=st.sampled_from(WAITING), soon=st.booleans(), answered=st.booleans())
    def park(self, number: int, state: State, *, soon: bool, answered: bool) -> None:
        if held := self._claim(number):
            records, claim, owns = held
            before = self.fields(claim.id)
            if cancelled := before.get("cancel"):
                called = "intent" in before and not answered and cancelled != "withdrawn"
                state = State.UNKNOWN if called else State.CANCELLED
            usage = Usage(attempts=1, answered=answered)
            delay = 0 if soon else 60
            parked = self.run(records.park(claim, state, delay=delay, usage=usage))
            assert parked == (state if owns else None)

    @rule(number=chosen, state=st.sampled_from([State.DONE, State.DEAD, State.UNKNOWN]))
    def settle(self, number: int, state: State) -> None:
        if held := self._claim(number):
            records, claim, owns = held
            before = self.fields(claim.id)
            settled = self.run(records.settle(claim, state, usage=Usage(attempts=1), result={}))
            names = (before.get("owner"), before.get("fence"), before.get("state"))
            assert settled == (owns or names == (claim.nonce, str(claim.fence), state))
            if not settled:
                assert self.fields(claim.id) == before

    # What happens to all of them.

    @rule(number=chosen)
    def time_passes(self, number: int) -> None:
        """A job becomes due, or its lease runs out."""
        draft = self.pick(number)
        state, past = self.state(draft.id), 1
        if state == State.RUNNING:
            self.redis.hset(keys.job(draft.id), mapping={"lease": past, "woken": 0})
            self.redis.zadd(keys.RUNNING, {draft.id: past}, xx=True)
        elif state in WAITING:
            self.redis.hset(keys.job(draft.id), "due", past)
            self.redis.zadd(keys.SCHEDULE, {draft.id: past}, xx=True)

    @rule(number=chosen)
    def record_expires(self, number: int) -> None:
        draft = self.pick(number)
        brief = self.redis.pttl(keys.job(draft.id)) < keys.TOMBSTONE_TTL_MS
        if self.state(draft.id) in ENDS and brief:
            self.redis.delete(keys.job(draft.id))
            self.over.add(draft.id)

    @rule(name=st.sampled_from(WORKERS))
    def worker_vanishes(self, name: str) -> None:
        self.redis.hset(keys.PRESENCE, name, "1 6")
        self.redis.pexpire(keys.PRESENCE, 60_000)
        self.run(run_flow(self.shared, self.presence.end_leases(name, "1 6")))
        for _, claim in self.claims:
            fields = self.fields(claim.id)
            if fields.get("state") == State.RUNNING and fields["owner"].startswith(f"{name}/"):
                assert int(fields["lease"]) <= self.run(server_time(self.shared))

    @rule(published=st.booleans())
    def take_due(self, *, published: bool) -> None:
        due = self.run(self.schedule.take_due("w", lease=60, most=8, published=self.batch))
        self.batch = due.batch if published else ""
        for wakeup in due.wakeups:
            state = self.state(wakeup.id)
            assert not state.ended

    @rule()
    def replicate(self) -> None:
        """A replica has all that there is now."""
        found = self.redis.scan_iter("*")
        held = {key: (self.redis.dump(key), self.redis.pttl(key)) for key in found}
        self.older = held, set(self.over)

    @rule()
    def fail_over(self) -> None:
        """The replica takes over; what was written since is lost."""
        held, over = self.older
        if held:
            self.redis.flushall()
            for key, (value, ttl) in held.items():
                self.redis.restore(key, max(ttl, 1), value)
            self.over = set(over)

    @rule()
    def fail_over_between_two_claims(self) -> None:
        """Two workers hold a claim of one job, with one fence."""
        self.enqueue(later=False)
        draft = list(self.drafts.values())[-1]
        self.replicate()
        self._deliver(draft, 0, woken=1)
        self.fail_over()
        self._deliver(draft, 1, woken=1)
        (_, first), (_, second) = self.claims[-2:]
        assert first.fence == second.fence
        self.settle(len(self.claims) - 2, State.DONE)
        self.heartbeat(len(self.claims) - 2)
        self.heartbeat(len(self.claims) - 1)

    # What is always true.

    @invariant()
    def every_key_has_a_ttl(self) -> None:
        assert [key for key in self.redis.scan_iter("*") if self.redis.ttl(key) == -1] == []

    @invariant()
    def every_open_job_is_found_and_no_other(self) -> None:
        for job_id, draft in self.drafts.items():
            places = {
                "schedule": keys.SCHEDULE,
                "woken": keys.woken(draft.queue),
                "running": keys.RUNNING,
            }
            scored = {name: self.redis.zscore(key, job_id) for name, key in places.items()}
            here = {name for name, score in scored.items() if score is not None}
            match self.state(job_id):
                case State.RUNNING:
                    # Its lease ran out and its wake-up is on the way, or it holds.
                    assert here in ({"running"}, {"woken"}, {"running", "woken"}), here
                case state if state in WAITING:
                    assert len(here - {"running"}) == 1, (state, here)
                case _:
                    assert here == set(), here

    @invariant()
    def nothing_that_is_over_comes_back(self) -> None:
        assert [job_id for job_id in self.over if self.state(job_id)] == []


def test_random_lives_of_jobs_keep_what_is_always_true(valkey_url: str) -> None:
    machine = type("Machine", (Lives,), {"url": valkey_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
