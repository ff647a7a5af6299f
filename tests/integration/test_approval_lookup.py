"""Approvals whose answer was lost, against a real Valkey and a sandbox."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from cli_runner import Cli
from conftest import wait_until
from dingrelay_producers import CannotResolve, Client, InvalidArgument, JobNotFound, Settings, State
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.dingtalk.apis import AUTH_SCOPES
from dingrelay_workers.dingtalk.errors import DingTalkError
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.dingtalk.transport import DingTalkClock
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.jobs.outcome import Outcome
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.wakeup import ReceivedWakeup
from sandboxed import sandbox_settings
from wakeups import Published

CREATE = "/v1.0/workflow/processInstances"
LIST = "/v1.0/workflow/processes/instanceIds/query"
SCHEMA = "/v1.0/workflow/forms/schemas/processCodes"
SETTLE = 0.4


def settings_of(sandbox: SandboxAdmin, valkey_url: str, **fields: Any) -> Settings:
    quick = {"settle_delay": SETTLE, "call_timeout": 1}
    return sandbox_settings(sandbox.base_url, valkey_url, **quick | fields)


class Relay:
    """A client, and workers that run what a test asks for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.redis = Redis.from_url(settings.redis)

    def ask(self, form: Any, **fields: Any) -> str:
        job = {"process_code": "PROC-ANY", "originator": "u1", "form": form, **fields}
        return self.client.send(ApprovalCreate.parse(job)).id

    async def run(self, resources: Resources, job_id: str) -> Outcome:
        """One run of the job, as if it were due."""
        self.redis.hset(keys.job(job_id), "due", 1)
        record = self.redis.hgetall(keys.job(job_id))
        wakeup = ReceivedWakeup(
            job_id,
            KINDS[record[b"kind"].decode()],
            json.loads(record[b"payload"]),
            record[b"queue"].decode(),
            woken=1,
            nonce=uuid.uuid4().hex,
        )
        led_to = await Executor(resources).execute(wakeup)
        assert led_to is not None
        return led_to

    async def end(self, resources: Resources, job_id: str) -> State:
        """Where the job ends if each wait is as long as it asks for."""
        for _ in range(8):
            led_to = await self.run(resources, job_id)
            if led_to.state.ended:
                return led_to.state
            await asyncio.sleep(min(led_to.delay, 2 * SETTLE))
        pytest.fail(f"the job goes on: {led_to}")


NO_PUBLISHER: Any = Published()


@pytest.fixture
def relay(sandbox: SandboxAdmin, valkey_url: str) -> Iterator[Relay]:
    relay = Relay(settings_of(sandbox, valkey_url))
    with relay.client, relay.redis:
        yield relay


@pytest.fixture
async def resources(relay: Relay) -> AsyncIterator[Resources]:
    async with Resources(relay.settings, NO_PUBLISHER) as resources:
        yield resources


def lose(sandbox: SandboxAdmin, count: int = 1) -> None:
    sandbox.add_fault("lost_answer", api=CREATE, count=count)


async def test_a_lost_answer_costs_no_second_approval(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    job = relay.ask({"事由": "出差", "备注": "", "明细": [{"项目": "车票", "金额": 3}]})
    lose(sandbox)
    assert await relay.end(resources, job) == State.DONE
    (made,) = sandbox.approvals()
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
    relay = Relay(settings)
    with relay.client, relay.redis:
        async with Resources(settings, NO_PUBLISHER) as resources:
            for number, fault in enumerate(faults):
                job = relay.ask({"事由": f"出差 {number}"})
                made = len(sandbox.approvals())
                sandbox.add_fault(api=api, count=1, effect=True, **fault)
                assert await relay.end(resources, job) == State.DONE, fault
                assert len(sandbox.approvals()) == made + 1, fault
                relay.redis.flushall()  # one sick answer is no outage


@pytest.mark.parametrize("ahead", [-3600, -60, 60, 3600])
async def test_clocks_that_differ_make_no_second_approval(
    relay: Relay, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """The worker's own clock is off, and then DingTalk's is: only theirs to each other counts."""
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + ahead)
    async with Resources(relay.settings, NO_PUBLISHER) as resources:
        job = relay.ask({"事由": "出差"})
        lose(sandbox)
        assert await relay.end(resources, job) == State.DONE
    assert len(sandbox.approvals()) == 1


@pytest.mark.parametrize("ahead", [-3600, -60, 60, 3600])
@pytest.mark.parametrize("measured", [True, False])
async def test_a_dingtalk_whose_clock_differs_from_redis(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, ahead: int, measured: bool
) -> None:
    sandbox.set_clock(ahead)
    job = relay.ask({"事由": "出差"})
    lose(sandbox)
    assert (await relay.run(resources, job)).state == State.RETRYING
    if not measured:
        resources.transport.clock = DingTalkClock()
    assert await relay.end(resources, job) == State.DONE
    assert len(sandbox.approvals()) == 1


async def test_a_dingtalk_whose_clock_is_set_while_the_answer_is_lost(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    for set_to in (60, -60):
        job = relay.ask({"事由": f"出差 {set_to}"})
        made = len(sandbox.approvals())
        lose(sandbox)
        assert (await relay.run(resources, job)).state == State.RETRYING
        sandbox.set_clock(set_to)
        resources.transport.clock = DingTalkClock()
        assert await relay.end(resources, job) == State.DONE
        assert len(sandbox.approvals()) == made + 1
        sandbox.set_clock(0)
        resources.transport.clock = DingTalkClock()


async def test_a_second_call_is_waited_for_as_long_as_the_first(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    job = relay.ask({"事由": "出差"})
    sandbox.add_fault("lost_answer", api=CREATE, count=2)
    assert (await relay.run(resources, job)).state == State.RETRYING
    sandbox.set_limits(listing_lag_seconds=3600)
    await asyncio.sleep(SETTLE)
    assert (await relay.run(resources, job)).state == State.RETRYING
    assert len(sandbox.approvals()) == 2  # DingTalk did not list the first one in time
    again = await relay.run(resources, job)
    assert (again.state, again.delay <= SETTLE) == (State.SNOOZED, True)
    intent = json.loads(relay.redis.hget(keys.job(job), "intent") or b"")
    assert intent["since"] < intent["at"] - SETTLE * 1000
    sandbox.set_limits(listing_lag_seconds=0)
    assert await relay.end(resources, job) == State.DONE
    assert len(sandbox.approvals()) == 2


async def test_indistinguishable_approvals_are_left_to_a_person(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = relay.ask({"事由": "出差 "}), relay.ask({"事由": "出差"})
    assert await relay.end(resources, other) == State.DONE
    sandbox.add_fault("hang", api=CREATE, count=1)
    assert (await relay.run(resources, job)).state == State.RETRYING
    await asyncio.sleep(SETTLE)
    # The other job has what is like it, so it is free to create its own; and it is lost again.
    lose(sandbox)
    for claims in ("dingrelay:adopted-instance:*", "dingrelay:adopted-job:*"):
        relay.redis.delete(*relay.redis.keys(claims))
    assert await relay.end(resources, job) == State.UNKNOWN
    error = relay.client.status(job).error
    (candidate,) = error.candidates
    assert candidate.id == sandbox.approvals()[0]["id"]
    assert candidate.link.startswith("https://aflow.dingtalk.com")
    assert len(sandbox.approvals()) == 1
    shown = relay.client.status(job).to_json()["error"]["candidates"]
    assert shown[0]["link"] == candidate.link


async def test_an_instance_of_another_job_is_no_candidate_and_is_not_read(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    job, other = relay.ask({"事由": "出差 "}), relay.ask({"事由": "出差"})
    assert await relay.end(resources, other) == State.DONE
    sandbox.add_fault("hang", api=CREATE, count=1)
    assert await relay.end(resources, job) == State.DONE
    assert len(sandbox.approvals()) == 2
    assert len(sandbox.calls(api=CREATE)) == 3  # an instance is read on the same path


async def test_a_call_that_was_held_up_after_its_note_is_noted_anew(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = relay.ask({"事由": "出差"})
    await resources.tokens.token("default")
    notes: list[float] = []
    note = resources.records.write_intent

    async def stopped_after(*given: Any, **more: Any) -> Any:
        verdict = await note(*given, **more)
        notes.append(time.monotonic())
        if len(notes) == 1:
            time.sleep(SETTLE)  # noqa: ASYNC251 - the process stands still
        return verdict

    monkeypatch.setattr(resources.records, "write_intent", stopped_after)
    assert await relay.end(resources, job) == State.DONE
    assert len(notes) > 1  # a busy machine holds it up once more
    assert len(sandbox.approvals()) == 1


async def test_a_worker_that_stood_still_sends_nothing_once_another_has_the_job(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = relay.ask({"事由": "出差"})
    await resources.tokens.token("default")
    note = resources.records.write_intent

    async def stopped_after(*given: Any, **more: Any) -> Any:
        verdict = await note(*given, **more)
        monkeypatch.setattr(resources.records, "write_intent", note)
        relay.redis.hset(keys.job(job), "lease", 1)
        time.sleep(SETTLE)  # noqa: ASYNC251 - the process stands still
        assert await relay.end(resources, job) == State.DONE  # as another worker would
        return verdict

    monkeypatch.setattr(resources.records, "write_intent", stopped_after)
    wakeup = ReceivedWakeup(
        job, KINDS["approval-create"], {}, "dingrelay.normal", woken=1, nonce="first"
    )
    assert await Executor(resources).execute(wakeup) is None
    assert len(sandbox.approvals()) == 1


async def test_a_wrong_form_costs_no_creation(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    jobs = [
        relay.ask({"事由": "x", "天": 1}, process_code="PROC-LEAVE"),
        relay.ask({"事由": "x", "请假类型": "丧假"}, process_code="PROC-LEAVE"),
    ]
    for job in jobs:
        assert await relay.end(resources, job) == State.DEAD
    errors = [relay.client.status(job).error for job in jobs]
    assert [error and (error.error_class, error.code) for error in errors] == [
        ("contract", "form.天"),
        ("contract", "form.请假类型"),
    ]
    assert sandbox.calls(api=CREATE) == []
    assert len(sandbox.calls(api=SCHEMA)) == 2  # for each, since the template may be edited


async def test_a_template_that_was_edited_takes_the_new_form(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    sandbox.add_template("PROC-NEW", ["事由"])
    first = relay.ask({"事由": "x"}, process_code="PROC-NEW")
    assert await relay.end(resources, first) == State.DONE
    sandbox.add_template("PROC-NEW", ["事由", "天数"])
    second = relay.ask({"事由": "x", "天数": 3}, process_code="PROC-NEW")
    assert await relay.end(resources, second) == State.DONE


async def unknown(relay: Relay, resources: Resources, sandbox: SandboxAdmin, form: Any) -> str:
    """A job that ended unknown, and whose approval no job has."""
    job = relay.ask(form)
    lose(sandbox)
    assert (await relay.run(resources, job)).state == State.RETRYING
    sandbox.add_fault("error", api=LIST, code="Forbidden.AccessDenied.AccessTokenPermissionDenied")
    assert (await relay.run(resources, job)).state == State.RETRYING
    relay.redis.hset(keys.job(job), "retried", int(relay.settings.retry_for * 1000))
    assert await relay.end(resources, job) == State.UNKNOWN
    sandbox.clear_faults()
    return job


async def test_a_person_names_the_instance(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    job = await unknown(relay, resources, sandbox, {"事由": "出差"})
    instance = sandbox.approvals()[0]["id"]
    other = await unknown(relay, resources, sandbox, {"事由": "出差"})
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
    assert await relay.end(resources, other) == State.DONE
    assert relay.client.status(other).result != {"instance_id": instance}
    assert len(sandbox.approvals()) == 2


async def test_a_person_says_that_there_is_none(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin
) -> None:
    job = await unknown(relay, resources, sandbox, {"事由": "出差"})
    looks = len(sandbox.calls(api=LIST))
    assert relay.client.resolve(job, not_created=True)
    assert relay.client.status(job).state == State.QUEUED
    assert await relay.end(resources, job) == State.DONE
    assert len(sandbox.calls(api=LIST)) == looks
    assert len(sandbox.approvals()) == 2  # as the person would have it
    resolved = relay.client.status(job).resolved
    assert not resolved.happened


@pytest.mark.parametrize(("sent", "state"), [(True, State.DONE), (False, State.QUEUED)])
async def test_a_person_says_whether_a_message_was_sent(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, sent: bool, state: State
) -> None:
    message = {"msgtype": "text", "text": {"content": "a"}}
    job = relay.client.send(
        MessageSend.parse({"to": {"users": ["u1"]}, "message": message, "on_unknown": "stop"})
    ).id
    sandbox.add_fault("hang", api="/topapi/message", count=1, effect=sent)
    assert (await relay.run(resources, job)).state == State.RETRYING
    assert await relay.end(resources, job) == State.UNKNOWN
    assert relay.client.resolve(job, sent=sent)
    assert relay.client.status(job).state == state
    if not sent:
        assert await relay.end(resources, job) == State.DONE


async def test_a_resolution_must_fit_the_job(relay: Relay) -> None:
    job = relay.ask({"事由": "出差"})
    wrong: list[dict[str, Any]] = [
        {},
        {"instance": "i", "not_created": True},
        {"sent": True},
        {"instance": "a b"},
    ]
    with pytest.raises(InvalidArgument):
        relay.client.resolve(job, instance="")
    for arguments in wrong:
        with pytest.raises(CannotResolve):
            relay.client.resolve(job, **arguments)
    with pytest.raises(JobNotFound):
        relay.client.resolve("stranger", not_created=True)
    assert not relay.client.resolve(job, not_created=True)
    assert relay.client.status(job).state == State.QUEUED


async def test_resolving_on_the_command_line(
    relay: Relay, resources: Resources, sandbox: SandboxAdmin, cli: Cli
) -> None:
    job = await unknown(relay, resources, sandbox, {"事由": "出差"})
    instance = sandbox.approvals()[0]["id"]
    assert cli("job", "resolve", job).exit_code == 2
    assert cli("job", "resolve", job, "--sent").exit_code == 2
    shown = cli.json("job", "resolve", job, "--instance", instance)
    assert (shown["state"], shown["resolved"]["happened"]) == ("done", True)
    assert "@" in shown["resolved"]["by"]
    assert "it happened" in cli("job", "show", job).stdout
    assert cli("job", "resolve", job, "--not-created").exit_code == 1


def test_answers_narrow_down_dingtalks_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = DingTalkClock()
    assert (clock.now(), clock.less(5)) == (None, None)
    year = "Thu, 01 Jan 99999999999999999999 00:00:00 GMT"
    zone = "Thu, 01 Jan 2026 00:00:00 +9999999999999999"
    for unread in (None, "", "yesterday", year, zone):
        clock.observe("rest", unread, sent=now, came=now)
    assert clock.now() is None
    clock.observe("rest", "Thu, 01 Jan 1970 01:00:00 GMT", sent=990.0, came=1_000.0)
    assert clock.now() == 3_600_000
    clock.observe("rest", "Thu, 01 Jan 1970 03:00:00 GMT", sent=1_001.0, came=1_001.0)
    assert clock.now() == 3_600_000  # set again too soon to be read
    now = 1_010.0
    clock.observe("rest", "Thu, 01 Jan 1970 01:00:19 GMT", sent=1_009.9, came=1_010.0)
    assert clock.now() == 3_619_000
    now = 1_020.0
    clock.observe("rest", "Thu, 01 Jan 1970 05:00:00 GMT", sent=1_020.0, came=1_020.0)
    assert clock.now() == 5 * 3_600_000  # it was set
    assert clock.less(4 * 3_600_000) == 3_600_000


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
                assert (behind.transport.clock.now() is not None) == known


async def test_the_time_of_a_claim_is_redis(
    relay: Relay, resources: Resources, redis: AsyncRedis
) -> None:
    job = relay.ask({"事由": "出差"})
    wakeup = ReceivedWakeup(
        job, KINDS["approval-create"], {}, "dingrelay.normal", woken=1, nonce="n"
    )
    claim = (await resources.records.claim(wakeup)).claim
    now = claim.time.now()
    seconds, micros = await redis.time()
    assert 0 <= seconds * 1000 + micros // 1000 - now < 60_000
    earlier = claim.time.now()
    wait_until(lambda: claim.time.now() > earlier)
