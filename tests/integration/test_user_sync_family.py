"""A user-sync and its departments as jobs: one worker, a real Valkey and the sandbox."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers import State
from dingrelay_producers.store import keys
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_workers.directory.store import AppDirectory
from support.workers import OneWorker

DEPARTMENT = b"user-sync-department"


@pytest.fixture(autouse=True)
def organisation(sandbox: SandboxAdmin) -> None:
    sandbox.seed(users=30, departments=3)


async def departments(worker: OneWorker) -> list[str]:
    """The ids of the departments' jobs that have not ended."""
    found = [
        key.decode().removeprefix(keys.job(""))
        async for key in worker.redis.scan_iter(keys.job("*"))
        if await worker.redis.hget(key, "kind") == DEPARTMENT
    ]
    return [each for each in found if not (await worker.status(each)).state.ended]


async def test_a_run_ends_whose_department_was_cancelled(worker: OneWorker) -> None:
    parent = await worker.send(UserSync())
    assert await worker.run(parent) == State.SNOOZED
    [root] = await departments(worker)
    await worker.run(root)
    lost, other = await departments(worker)
    assert await worker.cancel(lost)
    assert await worker.run(parent) == State.SNOOZED
    assert await worker.run(other) == State.DONE
    assert await worker.run(parent) == State.DEAD
    error = (await worker.status(parent)).error
    assert (error.error_class, error.code) == ("refused", "departments_failed")
    assert "1 departments were not read" in error.message


@pytest.mark.parametrize("way", ["lost by a failover", "discarded"])
async def test_a_department_whose_record_is_gone_is_read_by_another_job(
    worker: OneWorker, sandbox: SandboxAdmin, redis: Redis, way: str
) -> None:
    parent = await worker.send(UserSync())
    assert await worker.run(parent) == State.SNOOZED
    [root] = await departments(worker)
    await worker.run(root)
    lost, other = await departments(worker)
    if way == "discarded":
        sandbox.add_fault("error", api="/topapi/v2/user/list", code="60011", count=1)
        # It dies, and the database is away when it would say so.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AppDirectory, "fail", _away)
            assert await worker.run(lost) == State.DEAD
        assert await asyncio.to_thread(worker.client.discard, lost)
    else:
        await redis.delete(keys.job(lost))
    assert await worker.run(other) == State.DONE
    assert await worker.run(parent) == State.SNOOZED
    assert await worker.run(lost) == State.DONE
    assert await worker.finish(parent) == State.DONE


async def test_a_complete_run_starts_recipient_checks(worker: OneWorker, redis: Redis) -> None:
    parent = await worker.send(UserSync())
    await worker.run(parent)
    while pending := await departments(worker):
        assert not await redis.exists(keys.synced("default"))
        for job in pending:
            await worker.run(job)
    assert await worker.finish(parent) == State.DONE
    assert await redis.pttl(keys.synced("default")) > 0


async def _away(*_: Any) -> None:
    raise ConnectionError("the database is away")
