"""DingTalk's answers are kept while Redis refuses writes, and when a later call of the job is refused."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from dingrelay_producers import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate
from dingrelay_workers.dingtalk.apis import MESSAGE_SEND
from dingrelay_workers.limiter.slot import Slot
from support.days import SEND, Story
from support.jobs import message
from support.workers import OneWorker

MESSAGE = {
    "to": {"users": ["u1"]},
    "message": {"msgtype": "text", "text": {"content": "once"}},
    "on_unknown": "stop",
}


def refuse_scripts_at_reports(story: Story, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Let Redis refuse every script while the end of a probe's call is reported; APIs of such calls."""
    refused: set[str] = set()

    def refusing(report: Callable[..., Awaitable[float]]) -> Callable[..., Awaitable[float]]:
        async def report_refused(slot: Slot, error: BaseException | None = None) -> float:
            await story.redis.execute_command("ACL", "SETUSER", "default", "-@scripting")
            try:
                refused.add(slot.request.turns.api)
                return await report(replace(slot, probing=True, sick=True, trial=True), error)
            finally:
                await story.redis.execute_command("ACL", "SETUSER", "default", "+@all")

        return report_refused

    for executor in story.wakeups.executors:
        limiter = executor.resources.limiter
        monkeypatch.setattr(limiter, "report", refusing(limiter.report))
    return refused


@pytest.mark.parametrize(
    ("fault", "code", "state", "delivered"),
    [
        ("", "", State.DONE, 1),
        ("error", "60011", State.DEAD, 0),
        ("reset_after", "", State.UNKNOWN, 1),
    ],
    ids=["taken", "refused", "lost"],
)
async def test_an_answer_stands_though_redis_refuses_its_report(
    story: Story,
    sandbox: SandboxAdmin,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    code: str,
    state: State,
    delivered: int,
) -> None:
    if fault:
        sandbox.add_fault(fault, api=SEND, count=1, **({"code": code} if code else {}))
    refused = refuse_scripts_at_reports(story, monkeypatch)
    await story.enqueue(MESSAGE)
    await story.ended()
    (status,) = [await story.status(job) for job in story.jobs]
    assert MESSAGE_SEND.name in refused
    assert (status.state, status.attempts) == (state, 1)
    assert code in ("", status.error and status.error.code)
    assert sandbox.audit()["delivered"] == delivered
    assert sandbox.audit()["dropped"] == {}


CREATE = "/v1.0/workflow/processInstances"


@pytest.fixture
def worker_settings(sandbox: SandboxAdmin) -> dict[str, float]:
    sandbox.add_template("PROC", ["事由"])
    return {"call_timeout": 1, "settle_delay": 0.1}


async def test_a_refusal_hides_the_call_before(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("html", api=SEND, count=1, effect=True)
    job = await worker.send(message(to={"everyone": True}))
    assert await worker.run(job) == State.RETRYING
    sandbox.add_fault("error", api=SEND, count=1, code="400002", message="no")
    assert await worker.run(job) == State.UNKNOWN
    # A throttle in between changes nothing of it.
    sandbox.clear_faults()
    sandbox.add_fault("html", api=SEND, count=1, effect=True)
    other = await worker.send(message(idempotency_key="2"))
    assert await worker.run(other) == State.RETRYING
    sandbox.add_fault("throttle", api=SEND, count=1)
    assert await worker.run(other) == State.SNOOZED
    assert not await worker.cancel(other)
    assert (await worker.status(other)).state == State.UNKNOWN


async def test_a_refusal_after_a_lookup_is_final(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("html", api=CREATE, count=1, effect=False)
    form = {"process_code": "PROC", "originator": "u1", "form": {"事由": "出差"}}
    job = await worker.send(ApprovalCreate.parse(form))
    assert await worker.run(job) == State.RETRYING
    sandbox.add_fault("error", api=CREATE, count=1, code="invalidParameter")
    assert await worker.finish(job) == State.DEAD
