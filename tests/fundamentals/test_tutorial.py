"""The tutorial: one idea a test, in the order in which a newcomer meets them.

Every test works on the same running system, and writes to people of its own.
"""

from datetime import UTC, datetime, timedelta

import pytest

from dingrelay_producers import AsyncClient, IdempotencyConflict, State
from dingrelay_tasks import ApprovalCreate, ContractError, UserSync
from fundamentals.system import System
from support.jobs import message

SEND = "/topapi/message/corpconversation/asyncsend_v2"


def test_a_job_is_sent_and_waited_for(system: System) -> None:
    job = system.client.send(message("u20", text="你好"))
    status = job.wait(timeout=30)
    assert status.state == State.DONE
    assert status.result
    assert status.result["accepted"] == 1
    (entry,) = system.sandbox.inbox("u20")["delivered"]
    assert entry["message"]["text"]["content"] == "你好"


def test_a_job_that_makes_no_sense_is_refused_at_once(system: System) -> None:
    with pytest.raises(ContractError) as refused:
        message("u21", text="")
    assert refused.value.field == "message.text.content"


def test_the_same_key_is_the_same_job(system: System) -> None:
    first = system.client.send(message("u22", text="订单已发货", idempotency_key="order-1"))
    second = system.client.send(message("u22", text="订单已发货", idempotency_key="order-1"))
    assert first == second
    with pytest.raises(IdempotencyConflict):
        system.client.send(message("u22", text="另一条", idempotency_key="order-1"))
    first.wait(timeout=30)
    assert len(system.sandbox.inbox("u22")["delivered"]) == 1


def test_silently_dropped_messages_are_reported(system: System) -> None:
    assert system.client.send(message("u23", text="构建失败")).wait(30).state == State.DONE
    again = system.client.send(message("u23", text="构建失败")).wait(30)
    assert again.state == State.DUPLICATE
    assert again.result
    assert again.result["duplicate"] == ["u23"]
    assert system.sandbox.inbox("u23")["dropped"] == []


def test_a_job_can_wait_for_its_time(system: System) -> None:
    due = datetime.now(UTC) + timedelta(seconds=1.5)
    job = system.client.send(message("u24", text="准点提醒", send_at=due.isoformat()))
    assert job.status().state == State.QUEUED
    job.wait(timeout=30)
    (entry,) = system.sandbox.inbox("u24")["delivered"]
    assert due.timestamp() <= entry["at"] < due.timestamp() + 5


def test_a_job_can_be_cancelled_before_its_time(system: System) -> None:
    due = datetime.now(UTC) + timedelta(hours=1)
    job = system.client.send(message("u25", text="也许不发", send_at=due.isoformat()))
    assert job.cancel()
    assert job.status().state == State.CANCELLED


def test_a_job_that_comes_too_late_is_not_carried_out(system: System) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    job = system.client.send(message("u26", text="过期作废", expires_at=past.isoformat()))
    assert job.wait(timeout=30).state == State.EXPIRED
    assert system.sandbox.inbox("u26")["delivered"] == []


def test_a_dead_job_says_why_and_gets_another_life(system: System) -> None:
    fault = system.sandbox.add_fault("error", api=SEND, code="60011", match={"userid_list": "u27"})
    job = system.client.send(message("u27", text="权限不足"))
    dead = job.wait(timeout=30)
    assert dead.state == State.DEAD
    assert dead.error
    assert (dead.error.error_class, dead.error.code) == ("permission", "60011")
    assert dead.error.hint
    assert dead.id in [status.id for status in system.client.dead()]
    system.sandbox.delete_fault(fault)
    assert system.client.requeue(job.id)
    assert job.wait(timeout=30).state == State.DONE


def test_a_throttle_costs_a_job_no_attempt(system: System) -> None:
    system.sandbox.add_fault(
        "throttle", api=SEND, code="43004", count=1, match={"userid_list": "u28"}
    )
    status = system.client.send(message("u28", text="限流也不怕")).wait(timeout=30)
    assert (status.state, status.attempts, status.throttles) == (State.DONE, 1, 1)


def test_an_approval_is_created_once_even_if_its_answer_is_lost(system: System) -> None:
    form = {"事由": "出差", "天数": 2}
    approval = {"process_code": "PROC-LEAVE", "originator": "u29", "form": form}
    system.sandbox.add_fault("lost_answer", api="/v1.0/workflow/processInstances", count=1)
    status = system.client.send(ApprovalCreate.parse(approval)).wait(timeout=60)
    assert status.state == State.DONE
    created = [made["id"] for made in system.sandbox.approvals() if made["originator"] == "u29"]
    assert status.result
    assert created == [status.result["instance_id"]]


def test_the_directory_is_read_into_sql(system: System) -> None:
    status = system.client.send(UserSync()).wait(timeout=60)
    assert status.state == State.DONE
    assert status.result
    assert (status.result["departments"], status.result["users"]) == (10, 200)


def test_many_jobs_are_sent_as_a_stream(system: System) -> None:
    users = [f"u{number}" for number in range(100, 120)]
    refs: list[str] = []
    jobs = (message(user, text=f"给 {user} 的通知", lane="bulk") for user in users)
    count = system.client.send_many(jobs, on_sent=lambda ref: refs.append(ref.id))
    assert count == len(refs) == len(users)
    for ref in refs:
        assert system.client.job(ref).wait(timeout=30).state == State.DONE


async def test_asyncio_has_a_client_too(system: System) -> None:
    async with AsyncClient(system.client.settings) as client:
        job = await client.send(message("u30", text="异步也一样"))
        assert (await job.wait(timeout=30)).state == State.DONE
