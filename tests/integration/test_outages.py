"""Outages and holds: one worker's resources with everything that runs in it, in quick time."""

import asyncio
import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.record import Draft
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import WaitsFor
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApiCall, ApprovalCreate, UserSync
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.sentence import Sentence
from dingrelay_workers.database.database import Database
from dingrelay_workers.dingtalk.errors import Credentials
from dingrelay_workers.jobs import outcome
from dingrelay_workers.limiter import breakers
from dingrelay_workers.limiter.slot import Outage, Parked, Slot, SlotRequest, Turns
from dingrelay_workers.maintenance.leader import WORK
from support import campaigns
from support.outages import (
    BEAT,
    CREATE,
    SEND,
    USER,
    Fleet,
    OpenFleet,
    all_snoozed,
    all_wait,
    approval,
    approvals,
    eventually,
    has_ended,
    is_out,
    message,
    messages,
    met,
    more_calls,
    user_sync,
)

LIST = "/v1.0/workflow/processes/instanceIds/query"
BELOW = "/topapi/v2/department/listsub"
PEOPLE = "/topapi/v2/user/list"
LISTED = "/topapi/v2/department/listsubid"
MEMBERS = "/topapi/user/listid"
"""Paths that no rule names."""


def any_call(path: str, number: int) -> ApiCall:
    body = {"dept_id": 1, "number": number}
    return ApiCall.parse({"method": "POST", "path": path, "body": body, "effect": "none"})


OUTAGES: dict[str, list[dict[str, Any]]] = {
    "calls": [
        {"kind": "hang"},
        {"kind": "http", "status": 503},
        {"kind": "error"},
        {"kind": "reset_before"},
        {"kind": "html", "status": 502},
    ],
    "tokens": [{"kind": "http", "status": 503, "api": "/gettoken"}],
}
"""Answers to calls, one after the other."""


@pytest.fixture
async def fleet(opened: OpenFleet) -> Fleet:
    return await opened()


@pytest.mark.parametrize("outage", OUTAGES)
async def test_an_outage_costs_few_calls_and_no_job(
    opened: OpenFleet, sandbox: SandboxAdmin, outage: str
) -> None:
    # So long that an answer is not late on a machine that is busy.
    fleet = await opened(call_timeout=4)
    if outage != "tokens":
        await fleet.done(await fleet.enqueue(message(200)))
    began = time.monotonic()
    drafts: list[Draft] = []
    # However slow the machine is, a part of the outage lasts until all jobs wait for its end.
    for fault in OUTAGES[outage]:
        sandbox.clear_faults()
        sandbox.add_fault(**fault)
        drafts = drafts or await fleet.enqueue(*messages(1, 60), *approvals(15))
        calls = met(sandbox).total()
        await eventually(partial(more_calls, sandbox, calls))
        await eventually(partial(all_wait, fleet, drafts))
    lasted = time.monotonic() - began
    sandbox.clear_faults()
    await fleet.done(drafts)
    assert met(sandbox).total() <= 50 + lasted / BEAT
    audit = sandbox.audit()
    assert (audit["approvals"], audit["duplicates"]["approvals"]) == (15, 0)
    assert await fleet.resources.limiter.breakers.states() == []


async def test_another_api_keeps_its_rate(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("http", status=503, api=SEND)
    stuck = await fleet.enqueue(*messages(1, 10))
    await eventually(lambda: is_out(fleet, "message.send"))
    others = await fleet.enqueue(*approvals(20), *(user_sync(n) for n in range(1, 11)))
    await fleet.done(others)
    await eventually(lambda: all_snoozed(fleet, stuck))
    sandbox.clear_faults()
    await fleet.done(stuck)


async def test_a_hosts_outage_needs_two_apis(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("http", status=503, api=[SEND, USER])
    drafts = await fleet.enqueue(*messages(1, 20), *(user_sync(n) for n in range(1, 21)))
    await eventually(lambda: is_out(fleet, "oapi"))
    # An API that has not failed itself tries at once, and shows that the host is well.
    token = SlotRequest(Turns("default", "token", "urgent"))
    await fleet.resources.limiter.report(Slot(token, sick=True, sent=True))
    assert not await is_out(fleet, "oapi")
    sandbox.clear_faults()
    assert {status.state for status in await fleet.ended(drafts)} == {State.DONE}


async def test_the_urgent_go_first_afterwards(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(rules={"*": {"calls": "10/1s"}})
    fault = sandbox.add_fault("http", status=503, api=SEND)
    drafts = await fleet.enqueue(*messages(1, 30, "bulk"))
    await eventually(lambda: is_out(fleet, "message.send"))
    drafts += await fleet.enqueue(*messages(31, 36, "urgent"))
    await eventually(lambda: all_snoozed(fleet, drafts))
    sandbox.delete_fault(fault)
    await fleet.done(drafts, first=False)
    settled = [(await fleet.status(draft)).settled_at for draft in drafts]
    bulk, urgent = settled[:30], settled[30:]
    last = max(filter(None, urgent))
    assert sum(at < last for at in filter(None, bulk)) <= 12


LOST = {"kind": "reset_after", "api": CREATE, "dialect": "rest", "count": 1}
REFUSED = {"kind": "error", "api": LIST, "code": "60011", "status": 400}
ONE_DEPARTMENT = UserSync(scope="department", department=1)
FIRST_502 = {"kind": "http", "status": 502, "api": BELOW, "count": 1}
LISTS = ApiCall.parse({"method": "POST", "path": LISTED, "body": {"dept_id": 1}})
ALONE: dict[str, tuple[Contract, list[dict[str, Any]], int]] = {
    "a message": (message(7), [{"kind": "error"}], 6),
    "an approval": (approval(7), [{"kind": "error", "api": [CREATE, LIST]}], 6),
    "a lost answer": (approval(7), [LOST, {"kind": "error", "api": LIST}], 6),
    "a look-up that is refused": (approval(7), [LOST, REFUSED], 4),
    "a department": (ONE_DEPARTMENT, [FIRST_502, {"kind": "error", "api": BELOW}], 6),
    "the fetch of a token": (message(7), [{"kind": "error", "api": "/gettoken"}], 3),
    "a call of any API": (LISTS, [{"kind": "html", "status": 200}], 6),
}
"""A job, what its calls meet one after the other, and how many of them."""


@pytest.mark.parametrize("alone", ALONE)
async def test_one_job_alone_outlives_what_passes(
    fleet: Fleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch, alone: str
) -> None:
    job, faults, calls = ALONE[alone]
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    if faults[0].get("api") != "/gettoken":
        await fleet.resources.tokens.token("default")
    for fault in faults:
        sandbox.add_fault(**fault)
    drafts = await fleet.enqueue(job)
    await eventually(partial(more_calls, sandbox, calls))
    assert not await has_ended(fleet, drafts[0])
    sandbox.clear_faults()
    await fleet.done(drafts, first=False)
    audit = sandbox.audit()
    assert audit["approvals"] == isinstance(job, ApprovalCreate)
    assert audit["duplicates"]["approvals"] == 0


async def test_a_department_is_not_read_anew_at_each_retry(
    fleet: Fleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    sandbox.add_fault("error", api=PEOPLE, count=6)
    drafts = await fleet.enqueue(ONE_DEPARTMENT)
    await fleet.done(drafts, first=False)
    result = (await fleet.status(drafts[0])).result
    assert result
    assert sandbox.audit()["calls"][BELOW] == {"ok": result["departments"]}
    assert met(sandbox)[PEOPLE] == 6


async def test_a_job_whose_own_fault_it_is_holds_up_the_others_for_a_probe(
    fleet: Fleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    fault = sandbox.add_fault("error", api=SEND, match={"userid_list": "u7"})
    bad = await fleet.enqueue(message(7))
    await eventually(lambda: is_out(fleet, "message.send"))
    await fleet.done(await fleet.enqueue(*messages(8, 39)), first=False)
    assert not await has_ended(fleet, bad[0])
    sandbox.delete_fault(fault)
    await fleet.done(bad, first=False)


async def test_a_path_that_is_out_is_out_alone(
    fleet: Fleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "RETRY_BASE", 0.02)
    fault = sandbox.add_fault("html", status=200, api=LISTED)
    stuck = await fleet.enqueue(*(any_call(LISTED, n) for n in range(6)))
    await eventually(lambda: is_out(fleet, LISTED))
    await fleet.done(await fleet.enqueue(*(any_call(MEMBERS, n) for n in range(6))))
    (state,) = await fleet.resources.limiter.breakers.states()
    assert state.name == LISTED
    assert isinstance(state.reason, Sentence), "it can be shown in the reader's language"
    sandbox.delete_fault(fault)
    await fleet.done(stuck, first=False)


@pytest.mark.parametrize("code", ["40089", "60020", "40014"])
async def test_one_refusal_ends_one(fleet: Fleet, sandbox: SandboxAdmin, code: str) -> None:
    sandbox.add_fault("error", code=code, api=LISTED)
    (status,) = await fleet.ended(await fleet.enqueue(any_call(LISTED, 1)))
    assert (status.state, status.attempts) == (State.DEAD, 1)
    assert status.error
    assert (status.error.code, bool(status.error.hint)) == (code, True)
    assert await fleet.resources.limiter.breakers.states() == []
    await fleet.done(await fleet.enqueue(message(1), approval(1), any_call(MEMBERS, 1)))


async def test_an_api_that_refuses_stops_alone(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(token_circuit=0.5)
    fault = sandbox.add_fault("error", code="60020", api=SEND)
    stuck = await fleet.enqueue(*messages(1, 5))
    await eventually(lambda: all_snoozed(fleet, stuck))
    await fleet.done(await fleet.enqueue(*approvals(5)))
    assert await is_out(fleet, "message.send")
    assert not await is_out(fleet, "hold")
    sandbox.delete_fault(fault)
    await fleet.done(stuck)


OUT: dict[str, tuple[str, dict[str, Any]]] = {
    "api": ("message.send", {"kind": "http", "status": 503, "api": SEND}),
    "host": ("oapi", {"kind": "http", "status": 503, "api": [SEND, USER]}),
    "app": ("default", {"kind": "credentials_refused", "api": "/gettoken"}),
}
"""Scope of an outage → the name of what is out, and the fault."""


@pytest.mark.parametrize("what", OUT)
async def test_a_job_says_what_it_waits_for_and_when_that_is_tried(
    opened: OpenFleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fleet = await opened(token_circuit=60)
    name, fault = OUT[what]
    if what != "app":
        await fleet.resources.tokens.token("default")
        # The next probe is not within this test.
        monkeypatch.setattr(breakers, "BEAT", 60.0)
        fleet.resources.limiter.breakers.pace = breakers.Pace(60.0, 60.0, 5.0)
    sandbox.add_fault(**fault)
    drafts = await fleet.enqueue(*messages(1, 10), *(user_sync(n) for n in range(1, 11)))
    await eventually(lambda: is_out(fleet, "hold" if what == "app" else name))
    sends = drafts[:10]
    await eventually(lambda: all_snoozed(fleet, sends))
    awaited = WaitsFor(what=what, name=name)  # type: ignore[arg-type]
    [breaker] = [
        breaker
        for breaker in await fleet.resources.limiter.breakers.states()
        if breaker.is_of("default", awaited)
    ]
    late = [await fleet.status(draft) for draft in sends]
    found = next(status for status in late if status.waits_for == awaited)
    assert found.due_at
    assert abs(found.due_at - breaker.next_probe) < timedelta(milliseconds=2)
    assert found.to_json()["waits_for"] == {"what": what, "name": name}


async def test_refused_credentials_hold_the_app(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(token_circuit=1)
    fault = sandbox.add_fault("credentials_refused", api="/gettoken")
    drafts = await fleet.enqueue(*messages(1, 20), *approvals(5))
    began = time.monotonic()
    await eventually(lambda: is_out(fleet, "hold"))
    await eventually(lambda: all_snoozed(fleet, drafts))
    await eventually(lambda: more_calls(sandbox, 3))
    assert met(sandbox).total() <= 3 + (time.monotonic() - began)
    status = await fleet.status(drafts[0])
    assert status.error
    assert status.error.error_class == "credentials"
    assert await breakers.read_ended(fleet.redis) == []
    [hold] = [
        state for state in await fleet.resources.limiter.breakers.states() if "hold" in state.scope
    ]
    sandbox.delete_fault(fault)
    await fleet.done(drafts)
    # What is over is known for a day, with its length.
    ended = await breakers.read_ended(fleet.redis)
    assert [(end.scope, end.reason, end.opened_at) for end in ended] == [
        ("hold:default", hold.reason, hold.opened_at)
    ]
    assert ended[0].opened_at < ended[0].ended_at <= clock.now() + timedelta(seconds=1)


async def test_holds_of_other_credentials_are_over_once_these_are_accepted(fleet: Fleet) -> None:
    hold = keys.hold("default", "others")
    before = await fleet.resources.limiter.breakers.states()
    opened = clock.now() - timedelta(minutes=5)
    microseconds = round(opened.timestamp() * 1_000_000)
    await fleet.redis.hset(hold, mapping={"opened": microseconds, "reason": "refused"})
    await fleet.redis.pexpire(hold, keys.BREAKER_TTL_MS)
    await fleet.redis.zadd(keys.BREAKERS, {hold: microseconds})
    await fleet.redis.pexpire(keys.BREAKERS, keys.BREAKER_TTL_MS)
    await fleet.resources.limiter.breakers.forget_other_holds("default")
    assert await fleet.resources.limiter.breakers.states() == before
    assert await fleet.redis.zscore(keys.BREAKERS, hold) is None
    (ended,) = await breakers.read_ended(fleet.redis)
    assert (ended.scope, ended.name, ended.reason) == ("hold:default", "others", "refused")
    assert ended.opened_at == opened
    assert timedelta(minutes=4) < ended.ended_at - opened < timedelta(minutes=10)
    assert await fleet.redis.pttl(keys.ENDED_OUTAGES) > 0


async def test_instantly_refused_tokens_are_free(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    fault = sandbox.add_fault("error", code="40014", api=SEND)
    drafts = await fleet.enqueue(*messages(1, 40))
    began = time.monotonic()
    await eventually(lambda: all_wait(fleet, drafts))
    calls = sandbox.audit()["calls"]
    fetched = sum(calls["/gettoken"].values())
    assert fetched <= 8 + (time.monotonic() - began) / BEAT, calls
    sandbox.delete_fault(fault)
    await fleet.done(drafts)


async def test_a_campaign_waits_for_credentials_that_are_right(
    opened: OpenFleet, sandbox: SandboxAdmin, sqlite_url: str
) -> None:
    fleet = await opened(token_circuit=1)
    fault = sandbox.add_fault("credentials_refused", api="/gettoken")
    database = Database(sqlite_url)
    campaign = await campaigns.put(database, people=60, size=10)
    await WORK.announce(fleet.redis)
    await eventually(lambda: is_out(fleet, "hold"))
    row = await campaigns.read(database, campaign)
    assert (row.state, row.settled) == ("running", 0)
    sandbox.delete_fault(fault)

    async def over() -> bool:
        return (await campaigns.read(database, campaign)).state != "running"

    await eventually(over)
    row = await campaigns.read(database, campaign)
    assert (row.state, row.accepted, row.failed) == ("done", 60, 0)
    await database.dispose()


async def test_a_revoked_token_does_not_keep_it(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(token_circuit=0.5)
    await fleet.done(await fleet.enqueue(message(1)))
    fault = sandbox.add_fault("credentials_refused", api="/gettoken")
    sandbox.revoke_tokens()
    drafts = await fleet.enqueue(message(2), message(3), approval(1))
    await eventually(lambda: is_out(fleet, "hold"))
    sandbox.delete_fault(fault)
    await fleet.done(drafts)


async def test_other_credentials_need_not_wait(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    wrong = await opened("wrong", token_circuit=60)
    drafts = await wrong.enqueue(*messages(1, 10))
    await eventually(lambda: all_snoozed(wrong, drafts))
    assert sandbox.audit()["calls"]["/gettoken"] == {"error": 1}
    await wrong.close()
    right = await opened(token_circuit=60)
    await right.done(drafts)


@pytest.mark.parametrize("code", ["60020", "50003"])
async def test_a_refused_app_is_held(opened: OpenFleet, sandbox: SandboxAdmin, code: str) -> None:
    fleet = await opened(token_circuit=0.5)
    fault = sandbox.add_fault("error", code=code, api=["/topapi/", "/v1.0/workflow"], status=400)
    drafts = await fleet.enqueue(message(1), approval(1), message(2), user_sync(3))
    await eventually(lambda: all_snoozed(fleet, drafts))
    assert await is_out(fleet, "hold")
    sandbox.delete_fault(fault)
    await fleet.done(drafts)


async def test_a_missing_permission_ends_its_job(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", code="60011", api=SEND)
    (status,) = await fleet.ended(await fleet.enqueue(message(1)))
    assert status.state == State.DEAD
    assert await fleet.resources.limiter.breakers.states() == []


async def test_a_job_older_than_max_age_is_dead(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(max_age=1.5)
    sandbox.add_fault("http", status=503, api=SEND)
    drafts = await fleet.enqueue(*messages(1, 6))
    await eventually(lambda: is_out(fleet, "message.send"))
    drafts += await fleet.enqueue(*messages(7, 26))
    found = await fleet.ended(drafts)
    # Whose message may have left is not called dead.
    assert {status.state for status in found} == {State.DEAD, State.UNKNOWN}
    dead = [status.error for status in found if status.state == State.DEAD]
    assert {error and error.error_class for error in dead} == {"outage"}


async def test_waiting_jobs_cost_only_probes(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(rules={"*": {"calls": ""}})
    fault = sandbox.add_fault("http", status=503, api=SEND)
    drafts = await fleet.enqueue(*messages(1, 6))
    await eventually(lambda: is_out(fleet, "message.send"))
    drafts += await fleet.enqueue(*messages(7, 60))

    def probed() -> int:
        return sum(sandbox.audit()["calls"][SEND].values())

    async def runs_of_two_probes() -> int:
        probes, runs = probed(), fleet.runs.total()
        while probed() < probes + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return fleet.runs.total() - runs

    await eventually(lambda: all_snoozed(fleet, drafts))
    async with asyncio.timeout(60):
        # A job that is woken for a probe may find another one at it; that all 60 come is the fault.
        while await runs_of_two_probes() > 4:
            pass
    sandbox.delete_fault(fault)
    await fleet.done(drafts)


async def test_a_probe_whose_worker_died_does_not_block_the_breaker(
    opened: OpenFleet, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breakers, "ANSWER_MARGIN", 0.5)
    fleet = await opened(call_timeout=0.5)
    fault = sandbox.add_fault("http", status=503, api=SEND)
    drafts = await fleet.enqueue(*messages(1, 10))
    await eventually(lambda: is_out(fleet, "message.send"))
    limiter = fleet.resources.limiter
    sandbox.delete_fault(fault)

    async def dead_probe() -> bool:
        try:
            grant = await limiter.trial("default", "message.send", "oapi")
        except (Outage, Parked):
            return not await is_out(fleet, "message.send")
        return grant.trial or not await is_out(fleet, "message.send")

    await eventually(dead_probe)
    # The end is so near that one may be tried again before it ever hears of the outage.
    await fleet.done(drafts, first=False)


async def test_a_flapping_service_costs_no_job(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    fleet = await opened(rules={"*": {"calls": "10/1s"}})
    for number in range(4):
        sandbox.add_fault("http", status=503, starts_in=2 * number, seconds=1)
    drafts = await fleet.enqueue(*messages(1, 40), *approvals(10))
    assert {status.state for status in await fleet.ended(drafts)} == {State.DONE}
    assert met(sandbox).total() <= 60
    assert sandbox.audit()["duplicates"]["approvals"] == 0


async def test_a_walk_outlives_an_outage(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", api="/topapi/v2/", starts_in=0.3, seconds=3)
    (status,) = await fleet.ended(await fleet.enqueue(UserSync(scope="everything")))
    assert status.state == State.DONE, status
    assert met(sandbox).total() <= 60


async def test_wrong_credentials_leave_the_jobs(opened: OpenFleet, sandbox: SandboxAdmin) -> None:
    right = await opened(token_circuit=60)
    wrong = await opened("wrong", beside=right, token_circuit=60)
    with pytest.raises(Credentials):
        await wrong.resources.tokens.token("default")
    drafts = await right.enqueue(*messages(1, 40))
    await right.done(drafts)
    assert sandbox.audit()["calls"]["/gettoken"] == {"error": 1, "ok": 1}
    assert right.runs.total() <= 200, "no job goes round for long"
