"""Jobs that are refused while a call of theirs has no answer."""

from typing import Any

import pytest

from dingrelay_producers import State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend
from one_worker import OneWorker

SEND = "/topapi/message/corpconversation/asyncsend_v2"
CREATE = "/v1.0/workflow/processInstances"


@pytest.fixture
def worker_settings(sandbox: SandboxAdmin) -> dict[str, float]:
    sandbox.add_template("PROC", ["事由"])
    return {"call_timeout": 1, "settle_delay": 0.1}


def message(**fields: Any) -> MessageSend:
    text = {"msgtype": "text", "text": {"content": "你好"}}
    return MessageSend.parse({"to": {"users": ["u1"]}, "message": text, **fields})


def approval(**fields: Any) -> ApprovalCreate:
    form = {"事由": "出差"}
    return ApprovalCreate.parse(
        {"process_code": "PROC", "originator": "u1", "form": form, **fields}
    )


async def test_a_refusal_shows_nothing_of_the_call_before(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
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


async def test_an_approval_that_is_refused_after_a_look_up_is_dead(
    worker: OneWorker, sandbox: SandboxAdmin
) -> None:
    sandbox.add_fault("html", api=CREATE, count=1, effect=False)
    job = await worker.send(approval())
    assert await worker.run(job) == State.RETRYING
    sandbox.add_fault("error", api=CREATE, count=1, code="invalidParameter")
    assert await worker.finish(job) == State.DEAD
