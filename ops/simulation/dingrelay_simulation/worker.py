"""A simulated worker: the product's resources, executor and presence, and what Celery does for them."""

import asyncio
import json
import uuid
from base64 import b64decode
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.store.flows import run_flow_async, run_step_async
from dingrelay_simulation.broker import Broker, Message
from dingrelay_simulation.clock import CLOCK, Process
from dingrelay_simulation.loop import VirtualLoop, in_process
from dingrelay_simulation.taking import TakingBroker
from dingrelay_tasks.contract import QUEUES
from dingrelay_tasks.kinds import KINDS, TASK_PREFIX
from dingrelay_workers.calls.registry import ClaimedRun
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.resources import Resources, Surroundings
from dingrelay_workers.store.wakeup import ReceivedWakeup

if TYPE_CHECKING:
    from dingrelay_simulation.fleet import Run

CONCURRENCY = 16


@asynccontextmanager
async def heartbeats(settings: Settings, presence: Presence) -> AsyncGenerator[None]:
    """The heartbeats of a worker on the event loop, over a connection of their own."""
    timeout = 2 * presence.period
    redis = open_async(
        settings.redis_address,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 0),
    )
    carry_out = partial(run_step_async, redis)

    async def beat() -> None:
        while True:
            try:
                await run_flow_async(presence.beat(), carry_out)
            except (RedisError, OSError):
                presence.interrupt()
            await asyncio.sleep(presence.period)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        with suppress(RedisError, OSError):
            await run_flow_async(presence.leave(), carry_out)
        await redis.aclose()


class NotingExecutor(Executor):
    """Notes the runs of jobs that batches claim, which no message names."""

    def __init__(
        self, resources: Resources, noted: Callable[[str, str], AbstractContextManager[None]]
    ) -> None:
        super().__init__(resources)
        self._noted = noted

    async def _run_one(self, claimed: ClaimedRun) -> None:
        claim, *_ = claimed
        with self._noted(claim.kind, claim.id):
            await super()._run_one(claimed)


class SimulatedWorker:
    """One worker process.

    Attributes:
        process: as the loop and the network know it.
    """

    def __init__(
        self,
        process: Process,
        settings: Settings,
        publisher: Publisher,
        broker: Broker | TakingBroker,
        began: Callable[[str, str], "Run"],
    ) -> None:
        self.process = process
        self._began = began
        self.resources: Resources | None = None
        self._settings = settings
        self._publisher = publisher
        self._broker = broker
        self._tasks: list[asyncio.Task[Any]] = []
        self._running: set[asyncio.Task[Any]] = set()
        self._runs: list[Run] = []

    def start(self, loop: VirtualLoop) -> None:
        """Begin to work."""
        self._stopping = asyncio.Event()
        self.stopping = False
        self.main = loop.create_task(
            self._main(), context=in_process(self.process), name=self.process.name
        )

    async def _main(self) -> None:
        publisher = self._publisher
        around = Surroundings(
            worker=f"{self.process.name}:{uuid.uuid4().hex[:8]}", heartbeat=heartbeats
        )
        resources = self.resources = Resources(
            self._settings, publisher, concurrency=CONCURRENCY, queues=QUEUES, surroundings=around
        )
        async with resources, NotingExecutor(resources, self._noted) as executor:
            take = asyncio.create_task(self._take(executor))
            await self._stopping.wait()
            take.cancel()
            await asyncio.gather(take, return_exceptions=True)
            resources.drain()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._broker.leave(self)
        publisher.close()

    def stop(self) -> None:
        """Let it stop as at SIGTERM."""
        self.stopping = True
        self._stopping.set()

    def end_runs(self) -> None:
        """Note that those under way end, as the worker is killed."""
        for run in self._runs:
            run.until = CLOCK.now

    async def _take(self, executor: Executor) -> None:
        room = asyncio.Semaphore(CONCURRENCY)
        while True:
            await room.acquire()
            message = await self._broker.take(self)
            task = asyncio.create_task(self._run(executor, message))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
            task.add_done_callback(lambda _: room.release())

    async def _run(self, executor: Executor, message: Message) -> None:
        request = message.request
        name = str(request["task"]).removeprefix(TASK_PREFIX)
        back = False
        with self._noted(name, str(request["id"])):
            try:
                if name in KINDS:
                    await executor.execute(ReceivedWakeup.from_request(KINDS[name], request))
            except (RedisError, OSError):
                back = True
            except asyncio.CancelledError:
                """The lease went to another worker: as in the pool, the message is done with."""
        await self._broker.finish(self, message, back=back)

    @contextmanager
    def _noted(self, kind: str, job: str) -> Generator[None]:
        """Note a run for as long as it is under way."""
        run = self._began(kind, job)
        self._runs.append(run)
        try:
            yield
        finally:
            run.until = min(run.until, CLOCK.now)
            self._runs.remove(run)


def read_request(text: bytes) -> dict[str, Any]:
    """A message of Celery's as a worker's request has it."""
    message = json.loads(text)
    body = message["body"]
    if message["properties"].get("body_encoding") == "base64":
        body = b64decode(body)
    arguments, named, _ = json.loads(body)
    headers: dict[str, Any] = message["headers"]
    info = message["properties"].get("delivery_info") or {}
    return {**headers, "args": arguments, "kwargs": named, "delivery_info": info}
