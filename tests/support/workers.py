"""A worker in this process, to which a test hands over wake-ups one by one, and parts of one: its lease, its heartbeats."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers import Client, JobStatus, State
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.flows import Flow, T, run_flow_async, run_step_async
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks.contract import Contract
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.database.database import Database
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.maintenance.leader import Leader
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.resources import Resources
from dingrelay_workers.store.connections import open_redis
from dingrelay_workers.store.wakeup import ReceivedWakeup
from support.databases import prepare
from support.sandboxes import sandbox_settings


class OneWorker:
    """Jobs in Redis, and the worker that carries them out when a test says so."""

    def __init__(self, executor: Executor, client: Client, redis: Redis) -> None:
        self.executor = executor
        self.client = client
        self.redis = redis

    @property
    def database(self) -> Database:
        return self.executor.resources.database

    async def send(self, job: Contract) -> str:
        """Enqueue a job; its id."""
        return (await asyncio.to_thread(self.client.send, job)).id

    async def cancel(self, job_id: str) -> bool:
        return await asyncio.to_thread(self.client.cancel, job_id)

    async def status(self, job_id: str) -> JobStatus:
        return await asyncio.to_thread(self.client.status, job_id)

    async def run(self, job_id: str) -> State:
        """Hand over a wake-up of the job, which is due; its state then."""
        kind = await self.redis.hget(keys.job(job_id), "kind")
        assert kind is not None
        await self.redis.hset(keys.job(job_id), "due", "1")
        wakeup = ReceivedWakeup(
            id=job_id,
            kind=KINDS[kind.decode()],
            job={},
            queue="dingrelay.normal",
            woken=1,
            nonce=uuid.uuid4().hex,
        )
        await self.executor.execute(wakeup)
        return (await self.status(job_id)).state

    async def finish(self, job_id: str, *, runs: int = 50) -> State:
        """Wake the job until it has ended, ten times a second; how it ended."""
        for _ in range(runs):
            state = await self.run(job_id)
            if state.ended:
                return state
            await asyncio.sleep(0.1)
        raise AssertionError(f"{job_id} has not ended after {runs} runs")


OpenWorker = Callable[..., AbstractAsyncContextManager[OneWorker]]
"""`one_worker` on what a test has; settings are its arguments."""


@asynccontextmanager
async def one_worker(
    sandbox: SandboxAdmin, valkey_url: str, redis: Redis, folder: Path, **settings: Any
) -> AsyncIterator[OneWorker]:
    """A worker for the sandbox, whose limits are lifted."""
    sandbox.set_limits(calls="")
    given = {"database_url": f"sqlite:///{folder / 'directory.db'}", "rules": {"*": {"calls": ""}}}
    loaded = sandbox_settings(sandbox.base_url, valkey_url, **given | settings)
    prepare(loaded.database)
    async with Resources(loaded, Publisher(loaded)) as resources, Executor(resources) as executor:
        with Client(loaded) as client:
            yield OneWorker(executor, client, redis)


async def lead_once(leader: Leader) -> None:
    """Let a worker look at its lease, and do once what is due then."""
    await leader.look()
    async with asyncio.timeout(20):
        while any(duty.busy or duty.news.is_set() for duty in leader._duties):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.001)


async def run_flow(redis: Redis, flow: Flow[T]) -> T:
    return await run_flow_async(flow, partial(run_step_async, redis))


@asynccontextmanager
async def beats_on_loop(settings: Settings, presence: Presence) -> AsyncGenerator[None]:
    """The heartbeats of a worker as a task of the loop, over a connection of their own; see `Surroundings`."""
    redis = open_redis(settings)

    async def beat() -> None:
        while True:
            await run_flow(redis, presence.beat())
            await asyncio.sleep(presence.period)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await run_flow(redis, presence.leave())
        await redis.aclose()
