"""One trace from the caller of a job to DingTalk's request id: a real Valkey and the sandbox."""

import asyncio
import functools
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from opentelemetry import trace
from redis import Redis as SyncRedis
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from conftest import wait_until_async
from dingrelay_producers import AsyncClient, CampaignStatus, State
from dingrelay_producers.publisher import WOKEN_HEADER
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.tracing import spans as making
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_tasks.api_call import ApiCall
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.campaigns.dispatcher import Dispatcher
from dingrelay_workers.campaigns.store import CampaignStore
from dingrelay_workers.database.database import Database
from dingrelay_workers.http.routes import NDJSON
from dingrelay_workers.store.wakeup import ReceivedWakeup
from support import jobs
from support.campaigns import move
from support.gateways import gateway_thread
from support.jobs import Published
from support.outages import OpenFleet
from support.traces import PARENT, SPAN, TRACE, Spans, kept, one, place, words
from support.webhooks import Office, a_receiver, hurry
from support.workers import OneWorker, OpenWorker

SEND = "POST /topapi/message/corpconversation/asyncsend_v2"
RUN, PUBLISH = "process dingrelay.message-send", "send dingrelay.message-send"
TEXT = "机密内容"
message = functools.partial(jobs.message, text=TEXT)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return kept(monkeypatch)


async def test_one_trace_leads_from_the_caller_to_dingtalks_request(
    worker: OneWorker, spans: Spans, sandbox: SandboxAdmin
) -> None:
    tracer = trace.get_tracer_provider().get_tracer("shop")
    async with AsyncClient(worker.client.settings) as client:
        with tracer.start_as_current_span("POST /orders"):
            job = (await client.send(message())).id
    with capture_logs([merge_contextvars]) as lines:
        assert await worker.run(job) == State.DONE

    order, publish, run, call = (
        one(spans.named(name)) for name in ("POST /orders", PUBLISH, RUN, SEND)
    )
    assert {span.trace for span in (order, publish, run, call)} == {order.trace}
    assert [publish.parent, run.parent, call.parent] == [order.id, publish.id, run.id]
    assert [publish.kind, run.kind, call.kind] == ["PRODUCER", "CONSUMER", "CLIENT"]
    for span in (publish, run):
        assert span.attributes["messaging.message.id"] == job
    assert run.attributes["dingrelay.state"] == "done"
    (result,) = (await worker.status(job)).result["calls"]  # type: ignore[index]
    assert call.attributes["dingtalk.request_id"] == result["request_id"]
    assert call.attributes["http.response.status_code"] == 200
    assert not any(span.failed for span in spans.ended)
    # The token was fetched for this job, as a call of its own.
    assert one(spans.named("GET /gettoken")).parent == run.id
    exported, secrets = words(spans.ended), ("sandbox-secret", "sandbox-key", *sandbox.tokens())
    assert not [each for each in (TEXT, "u1", "access_token", *secrets) if each in exported]
    (done,) = [line for line in lines if line["event"] == "done"]
    assert (done["trace_id"], done["span_id"]) == run.place


async def test_the_runs_of_a_job_are_one_trace_and_a_failure_is_no_error_before_its_end(
    worker: OneWorker, spans: Spans, sandbox: SandboxAdmin
) -> None:
    sandbox.add_fault("error", api="/topapi/message", code="-1", count=1)
    job = await worker.send(message())
    assert await worker.run(job) == State.RETRYING
    assert await worker.run(job) == State.DONE
    first, second = spans.named(RUN)
    refused, taken = spans.named(SEND)
    publish = one(spans.named(PUBLISH))
    assert {span.parent for span in (first, second)} == {publish.id}
    assert [refused.parent, taken.parent] == [first.id, second.id]
    assert [span.name for span in spans.ended if span.failed] == [SEND]
    assert refused.failed
    assert [run.attributes["dingrelay.attempt"] for run in (first, second)] == [1, 2]
    assert refused.attributes["dingrelay.error.code"] == "-1"
    assert first.attributes["dingrelay.state"] == "retrying"

    spans.clear()
    sandbox.add_fault("error", api="/topapi/message", code="60011", count=1)
    dead = await worker.send(message("u2"))
    assert await worker.run(dead) == State.DEAD
    run = one(spans.named(RUN))
    assert (run.failed, run.attributes["error.type"]) == (True, "permission")
    # A person has it carried out again: it is still the same trace.
    await asyncio.to_thread(worker.client.requeue, dead)
    assert await worker.run(dead) == State.DONE
    assert {span.trace for span in spans.ended} == {run.trace}


async def test_a_message_of_several_calls_is_one_trace(worker: OneWorker, spans: Spans) -> None:
    job = await worker.send(message(*(f"u{number + 1}" for number in range(150))))
    assert await worker.run(job) == State.DONE
    run = one(spans.named(RUN))
    calls = spans.named(SEND)
    assert [call.parent for call in calls] == [run.id] * 2
    assert [call.attributes["dingrelay.recipients"] for call in calls] == [100, 50]


async def test_shared_calls_link_all_traces(spans: Spans, open_worker: OpenWorker) -> None:
    rules = {"*": {"calls": "2/4s"}, "message.send": {"recipients": ""}}
    async with open_worker(rules=rules) as worker:
        jobs = [await worker.send(message(f"u{number}")) for number in range(1, 6)]
        # It takes the slot, for which the others then wait together.
        await worker.run(await worker.send(message("u9", text="先行")))
        spans.clear()
        assert set(await asyncio.gather(*map(worker.run, jobs))) == {State.DONE}
    call = one(spans.named(SEND))
    runs = spans.named(RUN)
    assert len({run.trace for run in runs}) == 5
    maker = one(runs, lambda run: run.id == call.parent)
    others = [run for run in runs if run is not maker]
    assert sorted(call.links) == sorted(run.place for run in others)
    assert [run.links for run in others] == [[call.place]] * 4
    assert {run.attributes["dingtalk.request_id"] for run in others} == {
        call.attributes["dingtalk.request_id"]
    }


def bare(job: Any, **headers: Any) -> ReceivedWakeup:
    """The message of a Celery client without our package."""
    request = {"id": str(uuid.uuid4()), "args": (), "kwargs": {"job": job}, **headers}
    return ReceivedWakeup.from_request(KINDS["message-send"], request)


async def test_a_bare_clients_header_is_the_trace(worker: OneWorker, spans: Spans) -> None:
    job = message().model_dump(mode="json", exclude_unset=True)
    wakeup = bare(job, traceparent=PARENT, tracestate="vendor=1")
    assert await worker.executor.execute(wakeup)
    run = one(spans.named(RUN))
    assert (run.trace, run.parent) == (TRACE, SPAN)
    kept_as = await worker.redis.hget(keys.job(wakeup.id), "trace")
    assert kept_as == f"{PARENT} vendor=1".encode()

    for wrong in ("00-zz", ["00"], 7, PARENT.upper()):
        spans.clear()
        other = bare({**job, "allow_duplicate": True}, traceparent=wrong)
        assert await worker.executor.execute(other)
        assert one(spans.named(RUN)).parent == ""
    # A wake-up of ours says nothing of a trace: the record does.
    assert bare(job, traceparent=PARENT, **{WOKEN_HEADER: 5}).trace == ""


async def test_the_runs_of_a_job_that_nobody_traced_are_one_trace(
    worker: OneWorker, spans: Spans, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = record.draft(message())
    with monkeypatch.context() as patch:
        patch.setattr(making, "current", lambda: "")
        await run_async(worker.redis, record.enqueue(draft))
    assert not await worker.redis.hexists(keys.job(draft.id), "trace")
    sandbox.add_fault("error", api="/topapi/message", code="-1", count=1)
    assert await worker.run(draft.id) == State.RETRYING
    assert await worker.run(draft.id) == State.DONE
    first, second = spans.named(RUN)
    assert (second.trace, second.parent) == (first.trace, first.id)


async def test_an_api_call_shows_no_path_with_ids_in_it(worker: OneWorker, spans: Spans) -> None:
    call = {"method": "GET", "path": "/v1.0/contact/users/zhangsan", "effect": "none"}
    await worker.run(await worker.send(ApiCall.parse(call)))
    assert "zhangsan" not in words(spans.ended)
    assert one(spans.named("GET call.rest")).failed


async def test_the_departments_of_a_sync_are_children_of_its_run(
    worker: OneWorker, spans: Spans, sandbox: SandboxAdmin
) -> None:
    sandbox.seed(users=5, departments=2)
    parent = await worker.send(UserSync())
    assert await worker.run(parent) == State.SNOOZED
    run = one(spans.named("process dingrelay.user-sync"))
    found = [key async for key in worker.redis.scan_iter(keys.job("*"))]
    found.remove(keys.job(parent).encode())
    traces: list[Any] = [await worker.redis.hget(key, "trace") for key in found]
    assert [place(each.decode()) for each in traces if each] == [run.place]


async def test_chunk_traces_link_the_campaign(worker: OneWorker, spans: Spans) -> None:
    store = CampaignStore(Database(worker.client.settings.database))
    users = [f"u{number}" for number in range(1, 151)]
    content = {"msgtype": "text", "text": {"content": TEXT}}
    with making.span("POST /v1/campaigns", "SERVER", parent=PARENT):
        campaign = (await store.create({"name": "news", "message": content, "users": users})).id
    made = await store.get(campaign)
    create = one(spans.named("create campaign"))
    assert create.trace == TRACE
    assert place(made.trace) == create.place
    assert "trace" not in CampaignStatus.model_validate(made).model_dump()

    await move(worker.client.settings, store.database, made.id, "start")
    publisher: Any = Published()
    records = worker.executor.resources.records
    dispatcher = Dispatcher(
        records,
        publisher,
        store.database,
        settings=CampaignSettings(),
        users_per_call=lambda _: 100,
        now=lambda: datetime.now(UTC),
    )
    await worker.redis.set(keys.DISPATCHER, "test", px=60_000)
    dispatcher.begin("test")
    await dispatcher.tick()
    sent = spans.named("send dingrelay.campaign-chunk")
    assert len({span.trace for span in sent} - {TRACE}) == 2
    assert {(span.parent, *span.links) for span in sent} == {("", create.place)}
    found = [key async for key in worker.redis.scan_iter(keys.job("*"))]
    chunk = found[0].decode().removeprefix(keys.job(""))
    assert await worker.run(chunk) == State.DONE
    run = one(spans.named("process dingrelay.campaign-chunk"))
    assert (run.trace, run.parent) in {span.place for span in sent}
    await store.database.dispose()


@pytest.fixture
async def office(opened: OpenFleet, monkeypatch: pytest.MonkeyPatch) -> Office:
    hurry(monkeypatch)
    return Office(await opened())


async def test_a_webhook_hands_the_trace_of_the_job_on(office: Office, spans: Spans) -> None:
    async with a_receiver() as receiver:
        await office.add(f"{receiver.url}?secret=s3cret", "job.*")
        with making.span("POST /orders", "SERVER", parent=PARENT):
            (draft,) = await office.fleet.enqueue(message())
        # The receiver has it before the delivery has its answer.
        await wait_until_async(lambda: spans.named("POST webhook"))
        await office.close()
    delivery = one(spans.named("POST webhook"))
    run = one(spans.named(RUN))
    order = one(spans.named("POST /orders"))
    assert {span.trace for span in (delivery, run, order)} == {TRACE}
    assert delivery.parent == order.id
    assert place(receiver.taken[0].headers["traceparent"]) == delivery.place
    assert "s3cret" not in words(spans.ended)
    assert draft.id == receiver.taken[0].document["data"]["id"]


@pytest.fixture
def settings(valkey_url: str) -> Settings:
    return Settings.load(env="sandbox", redis_url=valkey_url)


BODY = {"to": {"users": ["u1"]}, "message": {"msgtype": "text", "text": {"content": TEXT}}}


def trace_of(valkey_url: str, job: str) -> str:
    with SyncRedis.from_url(valkey_url, decode_responses=True) as redis:
        return str(redis.hget(keys.job(job), "trace") or "")


def test_a_request_continues_its_trace(settings: Settings, valkey_url: str, spans: Spans) -> None:
    with gateway_thread(settings) as gateway:
        key = gateway.backend.keys.add("crm")
        reply = gateway.ask("POST", "/v1/messages", BODY, key=key, traceparent=PARENT)
        apart = gateway.ask("POST", "/v1/messages", BODY, key=key, traceparent="00-bad")
        lines = (json.dumps(BODY).encode() + b"\n") * 2
        traced = {"traceparent": PARENT, "Content_Type": NDJSON}
        bulk = gateway.ask("POST", "/v1/jobs", lines, key=key, **traced)
        gateway.ask("GET", "/v1/jobs/zhangsan", key=key, traceparent=PARENT)
        gateway.ask("GET", "/healthz", traceparent=PARENT)
    first, second = spans.named("POST /v1/messages")
    publish, other = spans.named(PUBLISH)
    assert (first.trace, first.parent, first.kind) == (TRACE, SPAN, "SERVER")
    assert (publish.trace, publish.parent) == (TRACE, first.id)
    assert place(trace_of(valkey_url, reply.json["id"])) == publish.place
    assert first.attributes["http.response.status_code"] == 202
    assert first.attributes["dingrelay.request_id"] == reply.headers["X-Request-Id"]
    # What is no trace begins none of the caller's.
    assert (apart.status, second.parent) == (202, "")
    assert other.trace == second.trace != TRACE
    many = one(spans.named("POST /v1/jobs"))
    job = json.loads(bulk.content.splitlines()[0])["id"]
    assert place(trace_of(valkey_url, job)) == many.place
    assert one(spans.named("GET /v1/jobs/{id}")).attributes["http.response.status_code"] == 404
    exported = words(spans.ended)
    assert not [each for each in (TEXT, "zhangsan", "/healthz", key) if each in exported]


async def test_a_trace_is_handed_on_by_processes_that_make_no_spans(
    settings: Settings, valkey_url: str, office: Office
) -> None:

    def ask() -> str:
        with gateway_thread(settings) as gateway:
            key = gateway.backend.keys.add("crm")
            traced = {"traceparent": PARENT, "tracestate": "a=1"}
            reply = gateway.ask("POST", "/v1/messages", BODY, key=key, **traced)
            return str(reply.json["id"])

    async with a_receiver() as receiver:
        await office.add(receiver.url, "job.*")
        with capture_logs([merge_contextvars]) as lines:
            job = await asyncio.to_thread(ask)
            assert trace_of(valkey_url, job) == f"{PARENT} a=1"
            names = ("message-send", "dingrelay.normal", "default", "normal", "")
            office.fleet.wakeups.publish([Wakeup(job, *names, at=1)])
            await wait_until_async(lambda: receiver.taken)
        await office.close()
    headers = receiver.taken[0].headers
    assert (headers["traceparent"], headers["tracestate"]) == (PARENT, "a=1")
    (done,) = [line for line in lines if line["event"] == "done" and line.get("id") == job]
    assert (done["trace_id"], "span_id" in done) == (TRACE, False)
