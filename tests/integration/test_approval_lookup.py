"""Approvals whose answer was lost, against a real Valkey and a sandbox."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from conftest import wait_until
from dingrelay_producers import CannotResolve, Client, InvalidArgument, JobNotFound, Settings, State
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.dingtalk.apis import AUTH_SCOPES
from dingrelay_workers.dingtalk.clock import DingTalkClock
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.wakeup import ReceivedWakeup
from support.command_line import Cli
from support.jobs import Published, message
from support.sandboxes import sandbox_settings

CREATE = "/v1.0/workflow/processInstances"
LIST = "/v1.0/workflow/processes/instanceIds/query"
SCHEMA = "/v1.0/workflow/forms/schemas/processCodes"
SETTLE = 0.4


def settings_of(sandbox: SandboxAdmin, valkey_url: str, **fields: Any) -> Settings:
    quick = {"settle_delay": SETTLE, "call_timeout": 1}
    return sandbox_settings(sandbox.base_url, valkey_url, **quick | fields)


class Relay:
    """A client, and a worker that runs what a test asks for."""

    def __init__(self, resources: Resources, client: Client, sandbox: SandboxAdmin) -> None:
        self.resources = resources
        self.client = client
        self.redis = resources.redis
        self.sandbox = sandbox

    def ask(self, form: Any = {"事由": "出差"}, **fields: Any) -> str:  # noqa: B006
        job = {"process_code": "PROC-ANY", "originator": "u1", "form": form, **fields}
        return self.client.send(ApprovalCreate.parse(job)).id

    async def run(self, job_id: str) -> Outcome:
        """One run of the job, as if it were due."""
        await self.redis.hset(keys.job(job_id), "due", "1")
        fields = await self.redis.hgetall(keys.job(job_id))
        kind, job = KINDS[fields[b"kind"].decode()], json.loads(fields[b"payload"])
        nonce, queue = uuid.uuid4().hex, fields[b"queue"].decode()
        wakeup = ReceivedWakeup(job_id, kind, job, queue, woken=1, nonce=nonce)
        led_to = await Executor(self.resources).execute(wakeup)
        assert led_to is not None
        return led_to

    async def end(self, job_id: str) -> State:
        """The job's final state if each wait takes as long as requested."""
        for _ in range(8):
            led_to = await self.run(job_id)
            if led_to.state.ended:
                return led_to.state
            await asyncio.sleep(min(led_to.delay, 2 * SETTLE))
        pytest.fail(f"the job goes on: {led_to}")

    async def retries(self, job_id: str) -> bool:
        """Whether its next run leaves the job to a retry."""
        return (await self.run(job_id)).state == State.RETRYING

    async def forget_clock(self) -> None:
        """No worker has a reading of DingTalk's clock."""
        await self.redis.delete(keys.DINGTALK_CLOCK)
        self.resources.clock = self.resources.transport.clock = DingTalkClock(self.redis)

    def lose(self, count: int = 1) -> None:
        """Lose the answers to creations."""
        self.sandbox.add_fault("lost_answer", api=CREATE, count=count)

    def made(self) -> int:
        """How many approvals there are."""
        return len(self.sandbox.approvals())


def first_wakeup(job_id: str) -> ReceivedWakeup:
    kind, queue = KINDS["approval-create"], "dingrelay.normal"
    return ReceivedWakeup(job_id, kind, {}, queue, woken=1, nonce="first")


NO_PUBLISHER: Any = Published()


@asynccontextmanager
async def relaying(settings: Settings, sandbox: SandboxAdmin) -> AsyncGenerator[Relay]:
    async with Resources(settings, NO_PUBLISHER) as resources:
        with Client(settings) as client:
            yield Relay(resources, client, sandbox)


@pytest.fixture
async def relay(sandbox: SandboxAdmin, valkey_url: str) -> AsyncIterator[Relay]:
    async with relaying(settings_of(sandbox, valkey_url), sandbox) as relay:
        yield relay


async def test_a_lost_answer_costs_no_second_approval(relay: Relay) -> None:
    job = relay.ask({"事由": "出差", "备注": "", "明细": [{"项目": "车票", "金额": 3}]})
    relay.lose()
    assert await relay.end(job) == State.DONE
    (made,) = relay.sandbox.approvals()
    assert relay.client.status(job).result == {"instance_id": made["id"]}


AFTER = [
    {"kind": "http", "status": 503},
    {"kind": "html"},
    {"kind": "truncated"},
    {"kind": "wrong_types"},
    {"kind": "error", "code": "-1"},
]
REMOTE = {"errcode": 15, "errmsg": "x", "sub_code": "isp.remote-service-timeout", "sub_msg": "x"}
BUSY = {"errcode": -1, "errmsg": "系统繁忙"}


@pytest.mark.parametrize("generation", ["v1.0", "topapi"])
async def test_an_answer_that_may_follow_the_effect_costs_no_second_approval(
    sandbox: SandboxAdmin, valkey_url: str, generation: str
) -> None:
    settings = settings_of(sandbox, valkey_url, DINGTALK_APPROVAL_API=generation)
    api = CREATE if generation == "v1.0" else "/topapi/processinstance/create"
    bodies = [] if generation == "v1.0" else [REMOTE, BUSY]
    faults = [*AFTER, *({"kind": "http", "status": 200, "body": body} for body in bodies)]
    async with relaying(settings, sandbox) as relay:
        for number, fault in enumerate(faults):
            job, made = relay.ask({"事由": f"出差 {number}"}), relay.made()
            sandbox.add_fault(api=api, count=1, effect=True, **fault)
            assert await relay.end(job) == State.DONE, fault
            assert relay.made() == made + 1, fault
            await relay.redis.flushall()  # one sick answer is no outage


@pytest.mark.parametrize("ahead", [-3600, -60, 60, 3600])
@pytest.mark.parametrize("clock", ["the worker's", "DingTalk's", "DingTalk's, not measured"])
async def test_clocks_that_differ_make_no_second_approval(
    sandbox: SandboxAdmin, valkey_url: str, monkeypatch: pytest.MonkeyPatch, clock: str, ahead: int
) -> None:
    """Only DingTalk's and Redis's to each other count."""
    if clock == "the worker's":
        monkeypatch.setattr(time, "time", lambda real=time.time: real() + ahead)
    else:
        sandbox.set_clock(ahead)
    async with relaying(settings_of(sandbox, valkey_url), sandbox) as relay:
        job = relay.ask()
        relay.lose()
        assert await relay.retries(job)
        if clock.endswith("not measured"):
            await relay.forget_clock()
        assert await relay.end(job) == State.DONE
        assert relay.made() == 1


async def test_a_dingtalk_whose_clock_is_set_while_the_answer_is_lost(relay: Relay) -> None:
    for set_to in (60, -60):
        job = relay.ask({"事由": f"出差 {set_to}"})
        made = relay.made()
        relay.lose()
        assert await relay.retries(job)
        relay.sandbox.set_clock(set_to)
        await relay.forget_clock()
        assert await relay.end(job) == State.DONE
        assert relay.made() == made + 1
        relay.sandbox.set_clock(0)
        await relay.forget_clock()


async def test_a_second_call_is_waited_for_as_long_as_the_first(relay: Relay) -> None:
    job = relay.ask()
    relay.lose(2)
    assert await relay.retries(job)
    relay.sandbox.set_limits(listing_lag_seconds=3600)
    await asyncio.sleep(SETTLE)
    assert await relay.retries(job)
    assert relay.made() == 2  # DingTalk did not list the first one in time
    again = await relay.run(job)
    assert (again.state, again.delay <= SETTLE) == (State.SNOOZED, True)
    intent = json.loads(await relay.redis.hget(keys.job(job), "intent") or b"")
    assert intent["since"] < intent["at"] - SETTLE * 1000
    relay.sandbox.set_limits(listing_lag_seconds=0)
    assert await relay.end(job) == State.DONE
    assert relay.made() == 2


async def test_indistinguishable_approvals_are_left_to_a_person(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = relay.ask({"事由": "出差 "}), relay.ask()
    assert await relay.end(other) == State.DONE
    relay.sandbox.add_fault("hang", api=CREATE, count=1)
    assert await relay.retries(job)
    await asyncio.sleep(SETTLE)
    # The other job has what is like it, so it is free to create its own; and it is lost again.
    relay.lose()
    for claims in ("dingrelay:adopted-instance:*", "dingrelay:adopted-job:*"):
        await relay.redis.delete(*await relay.redis.keys(claims))
    assert await relay.end(job) == State.UNKNOWN
    error = relay.client.status(job).error
    (candidate,) = error.candidates
    assert candidate.id == relay.sandbox.approvals()[0]["id"]
    assert candidate.link.startswith("https://aflow.dingtalk.com")
    assert relay.made() == 1
    shown = relay.client.status(job).to_json()["error"]["candidates"]
    assert shown[0]["link"] == candidate.link


async def test_an_instance_of_another_job_is_no_candidate_and_is_not_read(relay: Relay) -> None:
    job, other = relay.ask({"事由": "出差 "}), relay.ask()
    assert await relay.end(other) == State.DONE
    relay.sandbox.add_fault("hang", api=CREATE, count=1)
    assert await relay.end(job) == State.DONE
    assert relay.made() == 2
    assert len(relay.sandbox.calls(api=CREATE)) == 3  # an instance is read on the same path


async def test_a_call_that_was_held_up_after_its_note_is_noted_anew(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = relay.ask()
    await relay.resources.tokens.token("default")
    notes: list[float] = []
    note = relay.resources.records.write_intent

    async def stopped_after(*given: Any, **more: Any) -> Any:
        verdict = await note(*given, **more)
        notes.append(time.monotonic())
        if len(notes) == 1:
            time.sleep(SETTLE)  # noqa: ASYNC251 - the process stands still
        return verdict

    monkeypatch.setattr(relay.resources.records, "write_intent", stopped_after)
    assert await relay.end(job) == State.DONE
    assert len(notes) > 1  # a busy machine holds it up once more
    assert relay.made() == 1


async def test_a_worker_that_stood_still_sends_nothing_once_another_has_the_job(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = relay.ask()
    await relay.resources.tokens.token("default")
    note = relay.resources.records.write_intent

    async def stopped_after(*given: Any, **more: Any) -> Any:
        verdict = await note(*given, **more)
        monkeypatch.setattr(relay.resources.records, "write_intent", note)
        await relay.redis.hset(keys.job(job), "lease", "1")
        time.sleep(SETTLE)  # noqa: ASYNC251 - the process stands still
        assert await relay.end(job) == State.DONE  # as another worker would
        return verdict

    monkeypatch.setattr(relay.resources.records, "write_intent", stopped_after)
    wakeup = first_wakeup(job)
    assert await Executor(relay.resources).execute(wakeup) is None
    assert relay.made() == 1


async def test_a_wrong_form_costs_no_creation(relay: Relay) -> None:
    jobs = [
        relay.ask({"事由": "x", "天": 1}, process_code="PROC-LEAVE"),
        relay.ask({"事由": "x", "请假类型": "丧假"}, process_code="PROC-LEAVE"),
    ]
    for job in jobs:
        assert await relay.end(job) == State.DEAD
    errors = [relay.client.status(job).error for job in jobs]
    codes = [error and (error.error_class, error.code) for error in errors]
    assert codes == [("contract", "form.天"), ("contract", "form.请假类型")]
    assert relay.sandbox.calls(api=CREATE) == []
    assert len(relay.sandbox.calls(api=SCHEMA)) == 2  # for each, since the template may be edited


async def test_a_template_that_was_edited_takes_the_new_form(relay: Relay) -> None:
    relay.sandbox.add_template("PROC-NEW", ["事由"])
    first = relay.ask({"事由": "x"}, process_code="PROC-NEW")
    assert await relay.end(first) == State.DONE
    relay.sandbox.add_template("PROC-NEW", ["事由", "天数"])
    second = relay.ask({"事由": "x", "天数": 3}, process_code="PROC-NEW")
    assert await relay.end(second) == State.DONE


async def unknown(relay: Relay) -> str:
    """A job that ended unknown, and whose approval no job has."""
    job = relay.ask()
    relay.lose()
    assert await relay.retries(job)
    relay.sandbox.add_fault(
        "error", api=LIST, code="Forbidden.AccessDenied.AccessTokenPermissionDenied"
    )
    assert await relay.retries(job)
    retried = int(relay.resources.settings.retry_for * 1000)
    await relay.redis.hset(keys.job(job), "retried", str(retried))
    assert await relay.end(job) == State.UNKNOWN
    relay.sandbox.clear_faults()
    return job


async def test_a_person_names_the_instance(relay: Relay) -> None:
    job = await unknown(relay)
    instance = relay.sandbox.approvals()[0]["id"]
    other = await unknown(relay)
    assert relay.client.resolve(job, instance=instance, by="li")
    status = relay.client.status(job)
    assert (status.state, status.error) == (State.DONE, None)
    assert status.result == {"instance_id": instance}
    assert (status.resolved.by, status.resolved.happened) == ("li", True)
    follower = relay.client.status(record.keyed_id("default", "approval-follow", instance))
    assert follower.state == State.QUEUED
    assert not relay.client.resolve(job, instance=instance)
    assert [dead.id for dead in relay.client.dead()] == [other]
    with pytest.raises(CannotResolve, match=job):
        relay.client.resolve(other, instance=instance)
    # Nor does it take it by itself.
    relay.client.requeue(other)
    assert await relay.end(other) == State.DONE
    assert relay.client.status(other).result != {"instance_id": instance}
    assert relay.made() == 2


async def test_a_person_says_that_there_is_none(relay: Relay) -> None:
    job = await unknown(relay)
    looks = len(relay.sandbox.calls(api=LIST))
    assert relay.client.resolve(job, not_created=True)
    assert relay.client.status(job).state == State.QUEUED
    assert await relay.end(job) == State.DONE
    assert len(relay.sandbox.calls(api=LIST)) == looks
    assert relay.made() == 2  # as the person would have it
    resolved = relay.client.status(job).resolved
    assert not resolved.happened


@pytest.mark.parametrize(("sent", "state"), [(True, State.DONE), (False, State.QUEUED)])
async def test_a_person_says_whether_a_message_was_sent(
    relay: Relay, sent: bool, state: State
) -> None:
    job = relay.client.send(message("u1", on_unknown="stop")).id
    relay.sandbox.add_fault("hang", api="/topapi/message", count=1, effect=sent)
    assert await relay.retries(job)
    assert await relay.end(job) == State.UNKNOWN
    assert relay.client.resolve(job, sent=sent)
    assert relay.client.status(job).state == state
    if not sent:
        assert await relay.end(job) == State.DONE


@pytest.mark.parametrize("users", [1, 250])
async def test_a_person_says_that_one_call_was_sent_and_the_others_are_made(
    relay: Relay, users: int
) -> None:
    names = [f"u{number}" for number in range(users)]
    job = relay.client.send(message(*names, on_unknown="stop")).id
    relay.sandbox.add_fault("hang", api="/topapi/message", count=1, effect=True)
    assert await relay.retries(job)
    assert await relay.end(job) == State.UNKNOWN
    assert relay.client.resolve(job, sent=True)
    goes_on = users > 100
    assert relay.client.status(job).state == (State.QUEUED if goes_on else State.DONE)
    assert not goes_on or await relay.end(job) == State.DONE
    details = relay.client.details(job)
    assert (details.status.result or {})["accepted"] == users
    assert {*details.recipients.values()} <= {"accepted", "unverified"}
    calls = (details.status.result or {})["calls"]
    assert [call["recipients"] for call in calls] == ([100, 50] if goes_on else [])
    assert not relay.client.requeue(job)


async def test_a_resolution_must_fit_the_job(relay: Relay) -> None:
    job = relay.ask()
    both = {"instance": "i", "not_created": True}
    wrong: list[dict[str, Any]] = [{}, both, {"sent": True}, {"instance": "a b"}]
    with pytest.raises(InvalidArgument):
        relay.client.resolve(job, instance="")
    for arguments in wrong:
        with pytest.raises(CannotResolve):
            relay.client.resolve(job, **arguments)
    with pytest.raises(JobNotFound):
        relay.client.resolve("stranger", not_created=True)
    assert not relay.client.resolve(job, not_created=True)
    assert relay.client.status(job).state == State.QUEUED


async def test_resolving_on_the_command_line(relay: Relay, cli: Cli) -> None:
    job = await unknown(relay)
    instance = relay.sandbox.approvals()[0]["id"]
    assert cli("job", "resolve", job).exit_code == 2
    assert cli("job", "resolve", job, "--sent").exit_code == 2
    shown = cli.json("job", "resolve", job, "--instance", instance)
    assert (shown["state"], shown["resolved"]["happened"]) == ("done", True)
    assert "@" in shown["resolved"]["by"]
    assert "it happened" in cli("job", "show", job).stdout
    assert cli("job", "resolve", job, "--not-created").exit_code == 1


async def test_a_proxys_date_is_not_dingtalks(sandbox: SandboxAdmin, valkey_url: str) -> None:
    yesterday = {"Date": "Wed, 25 Nov 2026 01:00:00 GMT"}
    answers = [
        web.Response(status=502, text="<html>bad gateway</html>", headers=yesterday),
        web.json_response({"errcode": -1}, headers=yesterday),
    ]

    async def answer(_: web.Request) -> web.Response:
        return answers.pop(0)

    proxy = web.Application()
    proxy.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(proxy) as server:
        url = str(server.make_url(""))
        settings = settings_of(sandbox, valkey_url).model_copy(update={"oapi_url": url})
        async with Resources(settings, NO_PUBLISHER) as behind:
            for known in (False, True):
                with pytest.raises(DingTalkError):
                    await behind.transport.request(Request(AUTH_SCOPES), "token")
                assert (await behind.clock.ahead() is not None) == known


async def test_the_time_of_a_claim_is_redis(relay: Relay) -> None:
    job = relay.ask()
    wakeup = first_wakeup(job)
    claim = (await relay.resources.records.claim(wakeup)).claim
    now = claim.time.now()
    seconds, micros = await relay.redis.time()
    assert 0 <= seconds * 1000 + micros // 1000 - now < 60_000
    earlier = claim.time.now()
    wait_until(lambda: claim.time.now() > earlier)
