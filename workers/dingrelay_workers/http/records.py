"""Job records over asyncio, for callers that wait."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from redis import asyncio as aio
from structlog.stdlib import get_logger

from dingrelay_producers.enqueuing.connections import asking, check_writes
from dingrelay_producers.enqueuing.enqueuer import Enqueuer
from dingrelay_producers.errors import QueueFull, ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft, Enqueued
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.served_names import ServedNames
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus, state_of
from dingrelay_producers.store.transitions import WrittenJob

log = get_logger("dingrelay.gateway")


class GatewayRecords:
    """The job records.

    Every method raises `ServiceUnavailable` if Redis is away, full or read-only.
    """

    def __init__(self, settings: Settings, redis: aio.Redis) -> None:
        self._settings = settings
        self._redis = redis
        self.enqueuer = Enqueuer(settings, redis)
        self.served = ServedNames()
        """The names of the last reading; `read_served` renews them."""

    def enqueue(
        self, drafts: Sequence[Draft], jobs: Sequence[WrittenJob] | None = None
    ) -> Awaitable[list[Enqueued]]:
        """Accept jobs; see `Enqueuer.enqueue`."""
        return self.enqueuer.enqueue(drafts, jobs)

    async def read_served(self, names: Collection[tuple[str, str]]) -> ServedNames:
        """The names that workers serve, new enough to check these; one round trip a minute."""
        if self.served.is_outdated(names):
            self.served.begin()
            async with asking():
                served: list[Any] = await self._redis.hkeys(keys.SERVED)
            self.served.keep(served)
            if not self.served.any_worker:
                log.warning("no_worker_seen", advice="jobs are accepted unchecked; start a worker")
        return self.served

    async def status(self, job_id: str) -> JobStatus:
        """The status in a record.

        Raises:
            JobNotFound: there is none.
            UnreadableRecord: a field of it is not what this release writes.
        """
        return JobStatus.from_answer(job_id, await self.run(record.read(job_id)))

    async def states(self, job_ids: Sequence[str]) -> list[State | None]:
        """The states of these jobs; None where there is no record."""
        async with asking():
            pipe = self._redis.pipeline(transaction=False)
            for job_id in job_ids:
                pipe.hget(keys.job(job_id), "state")
            states: list[bytes | None] = await pipe.execute()
        return [
            None if state is None else state_of(job_id, state)
            for job_id, state in zip(job_ids, states, strict=True)
        ]

    async def give_up(self, job_id: str) -> None:
        """End a job whose caller has given up, if it does not run, and forget it."""
        await self.run(record.cancel(job_id, **record.lives_of_ended(self._settings)))
        await self.forget(job_id)

    async def forget(self, job_id: str) -> bool:
        """Forget a job that has ended in whatever way, and its answer; whether it had."""
        return bool(await self.run(record.discard(job_id, ended=True)))

    async def waiting(self, queue: str) -> int:
        """How many wake-ups of this queue wait to be started."""
        async with asking():
            return int(await self._redis.zcard(keys.woken(queue)))

    async def ping(self) -> None:
        """Ask whether Redis is there and takes writes."""
        await check_writes(self._redis)

    async def run(self, call: Call) -> Any:
        """The answer of a script, which shares a round trip with others of the moment."""
        async with asking():
            return await scripts.run_async(self._redis, call)

    async def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """The answers of scripts, in a round trip of their own."""
        async with asking():
            return await scripts.run_all_async(self._redis, calls)

    async def aclose(self) -> None:
        """Publish the wake-ups that wait."""
        await self.enqueuer.aclose()


LOOK_SECONDS = 0.05


class EndWatch:
    """Polls the states of jobs for callers that wait for their ends.

    Args:
        records: has the states.
        stopping: set once the gateway stops.
    """

    def __init__(self, records: GatewayRecords, stopping: asyncio.Event) -> None:
        self._records = records
        self._stopping = stopping
        self._waiting: dict[str, set[asyncio.Future[bool]]] = {}
        self._until_stop: set[asyncio.Future[bool]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, job_id: str, seconds: float, *, until_stop: bool = False) -> bool:
        """Whether the job has ended, or was forgotten, within so many seconds.

        Args:
            job_id: of the job.
            seconds: longest wait.
            until_stop: whether the wait is over when the gateway stops. One that is longer than the time for
                requests under way would be cut off without an answer.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job_id, set()).add(future)
        if until_stop:
            self._until_stop.add(future)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return False
        finally:
            self._until_stop.discard(future)
            waiters = self._waiting.get(job_id, set())
            waiters.discard(future)
            if not waiters:
                self._waiting.pop(job_id, None)

    async def _look(self) -> None:
        while self._waiting:
            if self._stopping.is_set():
                for future in self._until_stop:
                    if not future.done():
                        future.set_result(False)
            ids = list(self._waiting)
            # While Redis is away the states are unknown: callers wait on, and time out.
            with suppress(ServiceUnavailable):
                states = await self._records.states(ids)
                for job_id, state in zip(ids, states, strict=True):
                    if state is None or state.ended:
                        for future in self._waiting.pop(job_id, ()):
                            if not future.done():
                                future.set_result(True)
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Look no more."""
        if self._looking:
            self._looking.cancel()


FRESH_SECONDS = 0.25
"""How old a count may be: many requests share a look."""


class QueueDepths:
    """How many jobs wait in each queue, looked at a few times a second at most."""

    def __init__(self, records: GatewayRecords, limit: int, clock: Callable[[], float]) -> None:
        self._records = records
        self._limit = limit
        self._clock = clock
        self._counts: dict[str, tuple[float, int]] = {}
        self._looks: dict[str, asyncio.Lock] = {}

    async def check(self, queue: str) -> None:
        """Return if the queue has room.

        Raises:
            QueueFull: it has none.
            ServiceUnavailable: Redis is away.
        """
        if self._limit and await self._count(queue) >= self._limit:
            raise QueueFull(queue, self._limit)

    async def _count(self, queue: str) -> int:
        if (fresh := self._fresh(queue)) is not None:
            return fresh
        async with self._looks.setdefault(queue, asyncio.Lock()):
            if (fresh := self._fresh(queue)) is not None:
                return fresh
            count = await self._records.waiting(queue)
            self._counts[queue] = (self._clock(), count)
            return count

    def _fresh(self, queue: str) -> int | None:
        at, count = self._counts.get(queue, (float("-inf"), 0))
        return count if self._clock() - at < FRESH_SECONDS else None
