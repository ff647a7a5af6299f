"""A worker with everything that runs in it, before a DingTalk that is out, in quick time.

A beat is a tenth of a second here, so an outage of four seconds is one of forty.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys, record, scripts
from dingrelay_producers.store.record import Draft, Wakeup
from dingrelay_producers.store.states import State
from dingrelay_producers.store.status import JobStatus
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_tasks import ApprovalCreate, MessageSend, UserSync
from dingrelay_tasks.contract import QUEUES, Contract, Lane
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.limiter import breakers
from dingrelay_workers.resources import Resources
from support import jobs
from support.databases import prepare, sqlite_connections_ended
from support.jobs import received
from support.sandboxes import sandbox_settings

BEAT = 0.1
SEND = "/topapi/message/corpconversation/asyncsend_v2"
CREATE = "/v1.0/workflow/processInstances"
USER = "/topapi/v2/user/get"
BUSY = {"errcode": -1, "errmsg": "系统繁忙"}


class Wakeups(Publisher):
    """Carries out every wake-up on the loop of the test, so many at a time, by one worker's turns."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(32)
        self._running: set[asyncio.Task[object]] = set()
        self.executors: list[Executor] = []
        self.runs: Counter[str] = Counter()

    def publish(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        taken = list(wakeups)
        self._loop.call_soon_threadsafe(self._take, taken)
        return []

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        return self.publish(wakeups)

    def _take(self, wakeups: Sequence[Wakeup]) -> None:
        for wakeup in wakeups:
            task = self._loop.create_task(self._execute(wakeup))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def end(self) -> None:
        """End what runs, as a worker does before it closes its connections."""
        while running := list(self._running):
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _execute(self, wakeup: Wakeup) -> None:
        async with self._places:
            self.runs[wakeup.id] += 1
            executor = self.executors[self.runs.total() % len(self.executors)]
            await executor.execute(received(wakeup))


class Fleet:
    """A worker, and what became of its jobs."""

    def __init__(
        self,
        resources: Resources,
        wakeups: Wakeups,
        redis: Redis,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.resources = resources
        self.close = close
        self.runs = wakeups.runs
        self.wakeups = wakeups
        self.redis = redis

    async def enqueue(self, *contracts: Contract) -> list[Draft]:
        drafts = [record.draft(contract) for contract in contracts]
        for draft in drafts:
            call = record.enqueue(draft)
            answer = await scripts.run_async(self.redis, call)
            wakeup = record.enqueued(draft, answer).wakeup
            assert wakeup
            self.wakeups.publish([wakeup])
        return drafts

    async def status(self, draft: Draft) -> JobStatus:
        answer = await scripts.run_async(self.redis, record.read(draft.id))
        return JobStatus.from_record(draft.id, record.fields(answer))

    async def states(self, drafts: Sequence[Draft]) -> Counter[State]:
        async with self.redis.pipeline(transaction=False) as pipe:
            for draft in drafts:
                pipe.hget(keys.job(draft.id), "state")
            found: list[bytes] = await pipe.execute()
        return Counter(State(state.decode()) for state in found)

    async def done(
        self, drafts: Sequence[Draft], *, within: float = 60, first: bool = True
    ) -> None:
        """Return once all are done, nearly all at the first attempt if that is asked for.

        Of two APIs a few calls fail before their breakers open, and on a busy machine more are under
        way until the breakers know.
        """
        async with asyncio.timeout(within):
            for draft in drafts:
                while not await has_ended(self, draft):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        found = [await self.status(draft) for draft in drafts]
        assert {status.state for status in found} == {State.DONE}
        if first:
            spent = sum(status.attempts - 1 for status in found)
            most = max(2 * (breakers.NEEDED - 1), len(drafts) // 4)
            assert spent <= most, Counter(status.attempts for status in found)

    async def ended(self, drafts: Sequence[Draft], *, within: float = 40) -> list[JobStatus]:
        """Their statuses, once all have ended."""
        for draft in drafts:
            await eventually(lambda draft=draft: has_ended(self, draft), within=within)
        return [await self.status(draft) for draft in drafts]


OpenFleet = Callable[..., Awaitable[Fleet]]


@asynccontextmanager
async def opened_fleets(
    sandbox: SandboxAdmin,
    valkey_url: str,
    redis: Redis,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncGenerator[OpenFleet]:
    """Start a worker on the sandbox."""
    monkeypatch.setattr(breakers, "BEAT", BEAT)
    prepare(sqlite_url)
    sandbox.set_limits(calls="", recipients="")
    used: list[Wakeups] = []
    async with AsyncExitStack() as stack:

        async def open_fleet(
            secret: str = "sandbox-secret", *, beside: Fleet | None = None, **settings: Any
        ) -> Fleet:
            given = {"database_url": sqlite_url, "rules": {"*": {"calls": "100/1s"}}}
            given |= {"settle_delay": 0.5, "secret": secret} | settings
            loaded = sandbox_settings(sandbox.base_url, valkey_url, **given)
            wakeups = beside.wakeups if beside else Wakeups(loaded)
            used.append(wakeups)
            resources = Resources(loaded, wakeups, concurrency=64, queues=QUEUES)
            running = await stack.enter_async_context(AsyncExitStack())
            await running.enter_async_context(resources)
            wakeups.executors.append(await running.enter_async_context(Executor(resources)))
            return Fleet(resources, wakeups, redis, running.aclose)

        try:
            yield open_fleet
        finally:
            for wakeups in used:
                await wakeups.end()
    await sqlite_connections_ended()


def message(number: int, lane: Lane = "normal") -> MessageSend:
    return jobs.message(f"u{number}", text=f"第{number}条", lane=lane)


def approval(number: int) -> ApprovalCreate:
    return ApprovalCreate.parse(
        {"process_code": "PROC-ANY", "originator": "u1", "form": {"天数": number}}
    )


def messages(first: int, last: int, lane: Lane = "normal") -> list[MessageSend]:
    """Messages to the people of these numbers, the last one included."""
    return [message(number, lane) for number in range(first, last + 1)]


def approvals(count: int) -> list[ApprovalCreate]:
    return [approval(number) for number in range(count)]


def user_sync(number: int) -> UserSync:
    return UserSync(scope="user", user=f"u{number}")


def met(sandbox: SandboxAdmin) -> Counter[str]:
    """Calls into the outage, by API."""
    return Counter(call["api"] for call in sandbox.calls() if call["fault"])


async def is_out(fleet: Fleet, what: str) -> bool:
    """Whether the breaker of an API or a host stands open, or the app is held."""
    found = await fleet.resources.limiter.breakers.states()
    return any(state.name == what or state.scope.startswith(what) for state in found)


async def all_snoozed(fleet: Fleet, drafts: Sequence[Draft]) -> bool:
    return await fleet.states(drafts) == {State.SNOOZED: len(drafts)}


async def all_wait(fleet: Fleet, drafts: Sequence[Draft]) -> bool:
    """Whether all have heard of the outage, but those that probe whether it lasts."""
    states = await fleet.states(drafts)
    return states[State.SNOOZED] >= len(drafts) - 3 and not states[State.RETRYING]


async def has_ended(fleet: Fleet, draft: Draft) -> bool:
    return all(state.ended for state in await fleet.states([draft]))


async def eventually(predicate: Callable[[], object], *, within: float = 40) -> None:
    await wait_until_async(predicate, timeout=within)


async def more_calls(sandbox: SandboxAdmin, than: int) -> bool:
    return met(sandbox).total() > than
