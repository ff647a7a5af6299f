"""A seeded driver of campaigns: dispatchers that stall, die and are swapped at any point.

Everything is real, in one process: dispatchers on a database and a Valkey, and a worker's resources
that calls the sandbox. A dispatcher stops at a gate before and after each transaction and each
script, and the driver decides which of them goes on, which one is killed, and which one is left
behind while another takes over. Only the seed decides; how long something takes does not.
"""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

import campaigns
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.states import CampaignState
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns.dispatcher import Dispatcher
from dingrelay_workers.campaigns.report import Report
from dingrelay_workers.campaigns.service import Verb, move
from dingrelay_workers.database.database import Database
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.resources import Resources
from wakeups import received

STEPS = 120
"""Decisions of a run, before the faults stop."""
ROUNDS = 300
"""Turns of the last dispatcher, in which everything must end."""


class Gate:
    """A gate at which a dispatcher waits until it may go on."""

    def __init__(self) -> None:
        self.open, self.reached = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait for the driver."""
        self.reached.set()
        await self.open.wait()
        self.open.clear()


class GatedDispatcher:
    """One dispatcher, which has just taken the lease."""

    def __init__(self, simulation: "DispatcherRun", holder: str, *, gated: bool = True) -> None:
        self.gate = Gate()
        self.lose: str = ""
        self._gated = gated
        self._database = Database(simulation.url)
        publisher: Any = simulation
        self.dispatcher = Dispatcher(
            simulation.resources.records,
            publisher,
            self._database,
            settings=CampaignSettings(),
            users_per_call=lambda _: 100,
            now=lambda: datetime.now(UTC),
        )
        self.dispatcher.begin(holder)
        self._write = self._database.write
        database: Any = self._database
        database.write = self._transaction
        queue: Any = self.dispatcher._queue
        for name in ("enqueue", "look", "withdraw", "revive", "forget"):
            setattr(queue, name, self._between(getattr(queue, name)))
        self._task = asyncio.create_task(self._run()) if gated else None

    async def step(self) -> None:
        """Go on to the next gate."""
        assert self._task is not None
        await self.gate.reached.wait()
        self.gate.reached.clear()
        self.gate.open.set()
        arrived = asyncio.ensure_future(self.gate.reached.wait())
        await asyncio.wait({arrived, self._task}, return_when=asyncio.FIRST_COMPLETED)
        arrived.cancel()
        if self._task.done():
            self._task.result()

    async def kill(self) -> None:
        """End it where it stands."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._database.dispose()

    async def _run(self) -> None:
        while True:
            await self._pass()
            try:
                await self.dispatcher.tick()
            except (SQLAlchemyError, RedisError):
                continue

    async def _pass(self) -> None:
        if self._gated:
            await self.gate.wait()

    def _between(self, act: Any) -> Any:
        async def gated(*arguments: Any) -> Any:
            await self._pass()
            answer = await act(*arguments)
            await self._pass()
            return answer

        return gated

    @asynccontextmanager
    async def _transaction(self, app: str) -> AsyncGenerator[AsyncConnection]:
        await self._pass()
        lose, self.lose = self.lose, ""
        async with self._write(app) as connection:
            yield connection
            if lose == "transaction":
                raise OperationalError("commit", {}, Exception("away"))
        await self._pass()
        if lose == "answer":
            raise OperationalError("commit", {}, Exception("the answer was lost"))


class DispatcherRun:
    """A campaign, its dispatchers, and the worker that runs what they publish."""

    def __init__(self, seed: int, url: str, resources: Resources, sandbox: SandboxAdmin) -> None:
        self.random = random.Random(seed)
        self.url = url
        self.resources = resources
        self._executor = Executor(resources)
        self.story: list[str] = []
        self._sandbox = sandbox
        self._database = Database(url)
        self._dispatchers: list[GatedDispatcher] = []
        self._wakeups: list[Wakeup] = []
        self._ended: list[Wakeup] = []

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        """Called by the dispatchers."""
        self._wakeups += wakeups
        return []

    async def run(self) -> list[str]:
        """A whole run; what is wrong in the end."""
        size = self.random.choice([1, 3, 7])
        people = self.random.randrange(20, 90)
        campaign = await campaigns.put(
            self._database,
            people=people,
            size=size,
            error_share=1.0,
            rate=self.random.choice([None, None, 6_000]),
        )
        try:
            await self._take_over()
            for _ in range(STEPS):
                await self._decide(campaign)
            await self._finish(campaign)
            return [fault async for fault in self._faults(campaign, people)]
        finally:
            for dispatcher in self._dispatchers:
                await dispatcher.kill()
            await self._database.dispose()

    async def _decide(self, campaign: str) -> None:
        choices = {
            "step": 50,
            "work": 25,
            "take over": 6,
            "kill": 4,
            "pause": 3,
            "resume": 5,
            "lose": 4,
            "flush": 1,
            "cancel": 0.3,
        }
        [choice] = self.random.choices(list(choices), list(choices.values()))
        self.story.append(choice)
        dispatcher = self.random.choice(self._dispatchers)
        match choice:
            case "step":
                for _ in range(self.random.randrange(1, 12)):
                    await dispatcher.step()
            case "work":
                await self._work(self.random.randrange(1, 6))
            case "take over":
                await self._take_over()
            case "kill":
                self._dispatchers.remove(dispatcher)
                await dispatcher.kill()
                await self._take_over()
            case "lose":
                dispatcher.lose = self.random.choice(["answer", "transaction"])
            case "flush":
                await self.resources.redis.flushall()
                await self._take_over()
            case _:
                await self._command(choice, campaign)

    async def _command(self, choice: str, campaign: str) -> None:
        state = (await campaigns.read(self._database, campaign)).state
        if choice == "pause" and state == CampaignState.RUNNING:
            await self._move(campaign, "pause")
        elif choice == "resume" and state == CampaignState.PAUSED:
            await self._move(campaign, "resume")
        elif choice == "cancel" and not CampaignState(state).ended:
            await self._move(campaign, "cancel")

    async def _move(self, campaign: str, verb: Verb) -> None:
        await move(self.resources.settings, self._database, self.resources.redis, campaign, verb)

    async def _take_over(self, *, gated: bool = True) -> GatedDispatcher:
        """Another dispatcher has the lease; the others only seem to be gone."""
        holder = uuid.uuid4().hex
        await self.resources.redis.set(keys.DISPATCHER, holder, px=600_000)
        self._dispatchers.append(GatedDispatcher(self, holder, gated=gated))
        if len(self._dispatchers) > 3:
            await self._dispatchers.pop(0).kill()
        return self._dispatchers[-1]

    async def _work(self, most: int) -> None:
        """Run some wake-ups: in any order, some twice, some of a worker that dies."""
        self.random.shuffle(self._wakeups)
        taken, self._wakeups = self._wakeups[:most], self._wakeups[most:]
        self._ended += taken
        if self._ended and self.random.random() < 0.3:
            taken.append(self.random.choice(self._ended))
        for wakeup in taken:
            running = asyncio.create_task(self._executor.execute(received(wakeup)))
            if self.random.random() < 0.1:
                await asyncio.wait({running}, timeout=self.random.random() / 100)
                running.cancel()
                self._wakeups.append(wakeup)  # the scheduler finds that no worker has it
            await asyncio.gather(running, return_exceptions=True)

    async def _finish(self, campaign: str) -> None:
        """No more faults: what is left must end by itself."""
        last = await self._take_over(gated=False)
        self.story.append("finish")
        for round_ in range(ROUNDS):
            row = await campaigns.read(self._database, campaign)
            if row.state == CampaignState.PAUSED:
                await self._move(campaign, "resume")
            ended = CampaignState(row.state).ended and row.settled == row.chunks
            if await last.dispatcher.tick() is None and ended:
                return
            await self._work(len(self._wakeups))
            if round_ % 10 == 9:
                self._wakeups += self._ended  # as the scheduler does with what no worker carries on
                await asyncio.sleep(self.resources.settings.lease / 4)
        raise AssertionError(f"it does not end: {row}")

    async def _faults(self, campaign: str, people: int) -> AsyncGenerator[str]:
        """Contradictions between SQL's audience, its report, and the sandbox's deliveries."""
        row = await campaigns.read(self._database, campaign)
        inboxes: Counter[str] = Counter()
        doubled: Counter[str] = Counter()
        for call_user in (f"u{number}" for number in range(1, people + 1)):
            inbox = self._sandbox.inbox(call_user)
            inboxes[call_user] = sum(each["message"] == row.message for each in inbox["delivered"])
            doubled[call_user] = sum(each["message"] == row.message for each in inbox["dropped"])
        ambiguous = {
            user
            for chunk in await campaigns.chunks(self._database, campaign)
            if chunk.ambiguous or (chunk.error or {}).get("class") == "unknown"
            for user in chunk.users.split(",")
        }
        reported: Counter[str] = Counter()
        report = Report(self._database)
        async for page in report.results(campaign):
            for userid, outcome, _, reason, *_ in page:
                reported[userid] += 1
                has = inboxes[userid]
                wrong = {"accepted": has != 1, "duplicate": has != 1, "cancelled": has != 0}
                if wrong.get(outcome, outcome != "unknown"):
                    yield f"{userid} is {outcome} ({reason}) and has it {has} times"
                if doubled[userid] and userid not in ambiguous:
                    yield f"{userid} was called for {1 + doubled[userid]} times, and it is not reported"
        if reported != Counter(inboxes.keys()):
            yield f"not everybody is reported once: {reported}"
        summary = await report.summary(campaign)
        if sum(summary.outcomes.values()) != people or summary.outcomes["pending"]:
            yield f"the report does not add up: {summary.outcomes}"
        counted = (row.accepted, row.left_out, row.failed)
        outcomes = summary.outcomes
        if counted != (outcomes["accepted"], outcomes["duplicate"], outcomes["unknown"]):
            yield f"the campaign counts {counted}, the report {outcomes}"
        left = [key async for key in self.resources.redis.scan_iter(keys.job("*"))]
        if left:
            yield f"records are left: {left}"
