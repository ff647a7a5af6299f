"""Events as jobs: one worker, a real Valkey and the sandbox."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from conftest import wait_until_async
from dingrelay_producers import State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.event import Event
from dingrelay_tasks.missed_events import MissedEvents
from dingrelay_workers.approvals.store import ApprovalStore
from dingrelay_workers.jobs.context import JobContext
from support.directories import all_users, users_below
from support.workers import OneWorker


@pytest.fixture
def worker_settings(sandbox: SandboxAdmin) -> dict[str, float]:
    sandbox.seed(users=30, departments=3)
    return {"settle_delay": 0.1}


async def happens(worker: OneWorker, event_type: str, event_id: str, **data: Any) -> dict[str, Any]:
    """An event and all that follows from it; its result."""
    job_id = await worker.send(Event(event_type=event_type, event_id=event_id, data=data))
    # The walk of a new department is made of jobs of its own.
    while not (await worker.run(job_id)).ended:
        async for key in worker.redis.scan_iter(keys.job("*")):
            if await worker.redis.hget(key, "parent") == job_id.encode():
                await worker.finish(key.decode().removeprefix(keys.job("")))
    status = await worker.status(job_id)
    assert status.state == State.DONE
    assert status.result is not None
    return status.result


async def test_announced_changes_are_written(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    directory = worker.executor.resources.directory("default")
    sandbox.put_department(2, name="Lab")
    found = await happens(worker, "org_dept_create", "d1", DeptId=["2"], CorpId="c")
    in_lab = [each["userid"] for each in _people(sandbox) if 2 in each["dept_id_list"]]
    assert (found["added"], sorted(await users_below(directory, 2))) == (len(in_lab), in_lab)
    sandbox.put_user("new", name="New", dept_id_list=[2])
    found = await happens(worker, "user_add_org", "u1", userId=["new"])
    assert (found["added"], found["users"]) == (1, 1)
    sandbox.delete_user("new")
    found = await happens(worker, "user_leave_org", "u2", userId=["new"])
    assert (found["left"], found["gone"]) == (1, 1)
    sandbox.delete_department(2)
    found = await happens(worker, "org_dept_remove", "d2", deptId=[2])
    assert found["gone"] == 1
    assert await users_below(directory, 2) == []
    assert sorted(await all_users(directory)) == in_lab
    assert (await happens(worker, "label_user_change", "x1"))["follows"] == "nothing"


async def test_a_repeated_event_is_one_job(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    event = Event(event_type="user_modify_org", event_id="same", data={"userId": ["u1"]})
    first = await worker.send(event)
    assert await worker.run(first) == State.DONE
    assert await worker.send(event) == first
    assert sandbox.audit()["calls"]["/topapi/v2/user/get"]["ok"] == 1
    assert await worker.redis.llen("dingrelay.events") == 1


def _people(sandbox: SandboxAdmin) -> list[dict[str, Any]]:
    people: list[dict[str, Any]] = sandbox.organisation()["users"]
    return sorted(people, key=lambda each: each["userid"])


LIST = "/call_back/get_call_back_failed_result"
FOUND = {"events": 0, "unreadable": 0, "walks": False, "lost": 0, "refused": ""}


async def read_missed(worker: OneWorker, job_id: str = "") -> dict[str, Any] | None:
    """Have the list of missed events read, by a new job if none is given; what was found."""
    job_id = job_id or await worker.send(MissedEvents())
    assert await worker.run(job_id) == State.DONE
    return (await worker.status(job_id)).result


async def failed_pushes(sandbox: SandboxAdmin, count: int) -> None:
    """So many events that were not taken, each with its two retries behind it."""
    sandbox.set_delivery(scale=0.001)
    token, aes_key = "T0ken", "a" * 43
    sandbox.put_callback("http://127.0.0.1:9/", token=token, aes_key=aes_key, check=False)
    for number in range(count):
        sandbox.put_user(f"u{number + 1}", title=f"title {number}")

    async def all_failed() -> bool:
        failed = await asyncio.to_thread(sandbox.events, state="failed")
        return len(failed) == count

    await wait_until_async(all_failed)


async def test_missed_events_are_read_in_pages(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.seed(users=250, departments=3)
    await failed_pushes(sandbox, 230)
    assert await read_missed(worker) == {**FOUND, "events": 230}
    assert await worker.redis.llen("dingrelay.events") == 231
    assert await read_missed(worker) == {**FOUND, "events": 0}


async def test_an_event_without_names_walks_all(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    await failed_pushes(sandbox, 2)
    sandbox.set_delivery(failed_hollow=True)
    assert await read_missed(worker) == {**FOUND, "unreadable": 2, "walks": True}
    assert await worker.redis.llen("dingrelay.directory") == 1


@pytest.mark.parametrize("where", ["answer", "worker"])
async def test_a_list_that_is_lost_has_everything_read_that_it_may_have_been_about(
    worker: OneWorker, sandbox: SandboxAdmin, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    await failed_pushes(sandbox, 3)
    states = worker.executor.resources.approval_states("default", job_id="j", sender="")
    await states.open("i1", at=datetime.now(UTC))
    job_id = await worker.send(MissedEvents())
    if where == "answer":
        sandbox.add_fault("lost_answer", api=LIST, count=1)
    else:
        # It fails once it has the answer, before the events are jobs.
        async def fails(*_: Any) -> None:
            raise RedisConnectionError

        with monkeypatch.context() as patched:
            patched.setattr(JobContext, "enqueue", fails)
            assert await worker.run(job_id) == State.RETRYING
    assert await read_missed(worker, job_id) == {**FOUND, "lost": 1, "walks": True}
    assert await worker.redis.llen("dingrelay.directory") == 1
    table = ApprovalStore(worker.database, "default")
    row = await table.find("i1")
    assert row["look_at"] <= datetime.now(UTC), "the first look was ten minutes away"


async def test_a_forbidden_list_is_not_an_error(worker: OneWorker, sandbox: SandboxAdmin) -> None:
    sandbox.add_fault("error", api=LIST, code="60011")
    assert await read_missed(worker) == {**FOUND, "refused": "60011"}
