"""Actions on approvals and queries of them, from Python, the command line and over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from conftest import wait_until_async
from dingrelay_producers import ApprovalNotFound, AsyncClient, InvalidArgument
from dingrelay_producers.store import keys, record
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, approval_actions
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.jobs.context import JobContext
from support.gateways import GatewayClient, MemoryBackend, gateway_thread
from support.workers import OneWorker

KINDS = {b"approval-follow", b"approval-look", b"approval-decide", b"api-call", b"approval-create"}


@asynccontextmanager
async def working(worker: OneWorker) -> AsyncIterator[None]:
    """Jobs are carried out as they come, until the block ends."""

    over = asyncio.Event()

    async def work() -> None:
        # Not cancelled: redis-py may lose that (before Python 3.12).
        while not over.is_set():
            async for key in worker.redis.scan_iter(keys.job("*")):
                state, kind = await worker.redis.hmget(key, ["state", "kind"])
                if state == b"queued" and kind in KINDS:
                    await worker.run(key.decode().removeprefix(keys.job("")))
            await asyncio.sleep(0.02)

    task = asyncio.create_task(work())
    try:
        yield
    finally:
        over.set()
        await task


@pytest.fixture
async def worker(
    worker: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OneWorker]:
    # DingTalk refuses to withdraw what was just made: 15 seconds are too long for a test.
    sandbox.set_limits(terminate_after_seconds=0)
    monkeypatch.setattr(approval_actions, "WITHDRAWN_AFTER", 0)
    async with working(worker):
        yield worker


@pytest.fixture
async def client(worker: OneWorker) -> AsyncIterator[AsyncClient]:
    client = AsyncClient(worker.client.settings)
    yield client
    await client.aclose()


async def created(worker: OneWorker, *, sender: str = "", approvers: str = "u2") -> str:
    deciders = [{"action": "AND", "users": approvers.split()}]
    asked = {"process_code": "PROC-ANY", "originator": "u1", "form": {"事由": "出差"}}
    job = ApprovalCreate.parse({**asked, "sender": sender, "approvers": deciders})
    ref = worker.client.job(await worker.send(job))
    status = await asyncio.to_thread(ref.wait, 30)
    assert status.result is not None, status
    instance = str(status.result["instance_id"])
    await wait_until_async(lambda: known(worker, instance))
    return instance


async def known(worker: OneWorker, instance: str) -> bool:
    approvals = ApprovalService(worker.client.settings)
    return await approvals.get("default", instance) is not None


async def test_people_decide_through_python(worker: OneWorker, client: AsyncClient) -> None:
    instance = await created(worker, approvers="u2 u3")
    ref = client.approval(instance)
    assert (await ref.status()).state == "running"
    comment = await (await ref.comment("hurry", "u3")).wait()
    assert comment.state == "done", comment
    for user in ("u2", "u3"):
        done = await (await ref.agree(user, "fine")).wait()
        assert done.state == "done", done
    late = await (await ref.refuse("u2")).wait()
    assert (late.state, late.error.code) == ("dead", "nothing_to_decide")
    status = await ref.wait(10)
    assert (status.state, status.source) == ("approved", "look")
    assert {task.user: task.state for task in status.tasks} == {"u2": "agreed", "u3": "agreed"}
    assert await ref.status() in await client.approvals(state="approved")
    assert await client.approvals(waits_for="u2") == []


async def test_no_decision_is_repeated(
    worker: OneWorker, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No answer is under way any more: the look need not wait for it.
    monkeypatch.setattr(JobContext, "settle_delay", timedelta())
    decision = await client.approval(await created(worker)).agree("u2")
    assert (await decision.wait()).state == "done"
    # The replica had the job as it was accepted, and its data has another history.
    stale = keys.job(decision.id)
    fields = [each for each in await worker.redis.hkeys(stale) if each.startswith(b"step:")]
    await worker.redis.hdel(stale, "intent", "result", "settled", *fields)
    await worker.redis.hset(stale, mapping={"state": "queued", "history": "0" * 40})
    again = await decision.wait(30)
    assert again.state == "done", again


@pytest.mark.parametrize("answer", [{"success": False}, {"result": "false", "success": True}])
async def test_a_no_without_a_code_is_no_decision(
    worker: OneWorker, client: AsyncClient, sandbox: SandboxAdmin, answer: dict[str, Any]
) -> None:
    ref = client.approval(await created(worker))
    path = "/v1.0/workflow/processInstances/execute"
    sandbox.add_fault("http", api=path, status=200, body=answer, count=1)
    ended = await (await ref.agree("u2")).wait()
    assert ended.error is not None, ended
    assert (ended.state, ended.error.code) == ("unknown", "not_decided")
    assert (await ref.status()).state == "running"
    assert (await (await ref.agree("u2", "again")).wait()).state == "done"


async def test_an_approval_is_withdrawn(worker: OneWorker, client: AsyncClient) -> None:
    instance = await created(worker)
    ref = client.approval(instance)
    done = await (await ref.terminate("no longer needed", user="u1")).wait()
    assert done.state == "done", done
    assert (await (await ref.look()).wait()).state == "done"
    assert (await ref.status()).state == "terminated"


async def test_an_approval_that_nobody_follows_is_reported_so(worker: OneWorker) -> None:
    ref = worker.client.approval("stranger-s")
    with pytest.raises(ApprovalNotFound):
        await asyncio.to_thread(ref.status)
    decision = await asyncio.to_thread(ref.agree, "u1")
    ended = await asyncio.to_thread(decision.wait)
    assert ended.error.code == "no_approval"
    with pytest.raises(InvalidArgument, match="state"):
        worker.client.approvals(state="over")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="color"):
        worker.client.approvals(color="red")  # type: ignore[call-arg]


async def test_people_decide_over_http(worker: OneWorker) -> None:
    instance = await created(worker, sender="crm")

    kept = MemoryBackend()
    kept.by_class[ApprovalService] = ApprovalService(worker.client.settings)
    crm = kept.keys.add("crm")
    other = kept.keys.add("other")

    def ask(client: GatewayClient) -> None:
        path = f"/v1/approvals/{instance}"
        status = client.ask("GET", path, key=crm)
        assert status.status == 200
        assert (status.json["state"], status.json["sender"]) == ("running", "crm")
        listed = client.ask("GET", "/v1/approvals?limit=1&waits_for=stranger", key=crm)
        assert listed.json == {"approvals": [], "next": None}
        page = client.ask("GET", "/v1/approvals?limit=1&state=running", key=crm)
        assert [entry["instance"] for entry in page.json["approvals"]] == [instance]
        assert page.json["next"]
        rest = client.ask("GET", f"/v1/approvals?cursor={page.json['next']}", key=crm)
        assert rest.json["approvals"] == []
        # What another sender asked for is no one else's business.
        assert client.ask("GET", path, key=other).status == 404
        verdict = {"user": "u2"}
        assert client.ask("POST", f"{path}/agree", verdict, key=other).status == 404
        assert client.ask("GET", "/v1/approvals", key=other).json["approvals"] == []
        stranger = client.ask("POST", f"{path}/agree?wait=20", {"user": "u9"}, key=crm)
        assert stranger.json["error"]["code"] == "nothing_to_decide", stranger.content
        done = client.ask("POST", f"{path}/agree?wait=20", verdict, key=crm)
        assert (done.status, done.json["state"]) == (200, "done"), done.content

    with gateway_thread(worker.client.settings, kept) as client:
        await asyncio.to_thread(ask, client)


async def test_the_actions_are_jobs_whose_repetition_does_no_harm(worker: OneWorker) -> None:
    comment = approval_actions.CommentRequest(user="u1", text="x").job("i1")
    asked = approval_actions.TerminationRequest(user="u1")
    withdrawn = [asked.job("i1", "v1.0"), asked.job("i1", "topapi")]
    assert comment.effect == "once"
    assert [job.effect for job in withdrawn] == ["repeatable", "repeatable"]
    assert record.draft(comment).kind == "api-call"
    fields = {"process_instance_id": "i1", "is_system": False, "remark": ""}
    wanted = {"request": {**fields, "operating_userid": "u1"}}
    assert json.dumps(withdrawn[1].body) == json.dumps(wanted)
