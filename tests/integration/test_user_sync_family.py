"""A user-sync and its departments as jobs: one worker's engine, a real Valkey and the sandbox."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dingrelay_producers import Client, Settings, State, keys
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import AppSettings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import UserSync
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers import pipeline
from dingrelay_workers.delivery import Delivery
from dingrelay_workers.directory.schema import upgrade
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.engine import Engine

DEPARTMENT = "user-sync-department"


class Family:
    """A worker, and the jobs that a user-sync leaves in Redis."""

    def __init__(self, engine: Engine, client: Client, redis: Redis) -> None:
        self.engine = engine
        self.client = client
        self.redis = redis

    async def run(self, job_id: str) -> State:
        """Hand over a wake-up of the job, which is due; its state then."""
        kind = await self.redis.hget(keys.job(job_id), "kind")
        assert kind is not None
        await self.redis.hset(keys.job(job_id), "due", "1")
        delivery = Delivery(
            id=job_id,
            kind=KINDS[kind.decode()],
            job={},
            queue="dingrelay.directory",
            woken=1,
            nonce=uuid.uuid4().hex,
        )
        await pipeline.execute(delivery, self.engine)
        return (await self.status(job_id)).state

    async def status(self, job_id: str) -> Any:
        return await asyncio.to_thread(self.client.status, job_id)

    async def departments(self) -> list[str]:
        """The ids of the departments' jobs that have not ended."""
        found = [
            key.decode().removeprefix(keys.job(""))
            async for key in self.redis.scan_iter(keys.job("*"))
            if await self.redis.hget(key, "kind") == DEPARTMENT.encode()
        ]
        return [each for each in found if not (await self.status(each)).state.ended]


@pytest.fixture
async def family(
    sandbox: SandboxAdmin, valkey_url: str, redis: Redis, tmp_path: Path
) -> AsyncIterator[Family]:
    sandbox.seed(users=30, departments=3)
    sandbox.set_limits(calls="")
    app = {"app_key": "sandbox-key", "app_secret": "sandbox-secret", "agent_id": "1000001"}
    settings = Settings.load(
        env="sandbox",
        redis_url=valkey_url,
        database_url=f"sqlite:///{tmp_path / 'directory.db'}",
        rules={"*": {"calls": ""}},
        max_attempts=1,
        apps={"default": AppSettings.model_validate(app)},
        DINGTALK_OAPI_URL=sandbox.base_url,
        DINGTALK_API_URL=sandbox.base_url,
    )
    upgrade(settings.database)
    async with Engine(settings, Publisher(settings)) as engine:
        with Client(settings) as client:
            yield Family(engine, client, redis)


@pytest.mark.parametrize("way", ["cancelled", "discarded"])
async def test_a_run_ends_whose_department_was_taken_away(
    family: Family, sandbox: SandboxAdmin, way: str
) -> None:
    parent = (await asyncio.to_thread(family.client.send, UserSync())).id
    assert await family.run(parent) == State.SNOOZED
    [root] = await family.departments()
    await family.run(root)
    lost, other = await family.departments()
    if way == "cancelled":
        assert await asyncio.to_thread(family.client.cancel, lost)
    else:
        sandbox.add_fault("error", api="/topapi/v2/user/list", code="60011", count=1)
        # It dies, and the database is away when it would say so.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AppDirectory, "fail", _away)
            assert await family.run(lost) == State.DEAD
        assert await asyncio.to_thread(family.client.discard, lost)
    assert await family.run(parent) == State.SNOOZED
    assert await family.run(other) == State.DONE
    assert await family.run(parent) == State.DEAD
    error = (await family.status(parent)).error
    assert (error.error_class, error.code) == ("refused", "departments_failed")
    assert "1 departments were not read" in error.message


async def _away(*_: Any) -> None:
    raise ConnectionError("the database is away")
