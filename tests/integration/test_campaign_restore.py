"""Campaigns whose Redis is restored, whose quota is used up, or whose dispatchers die (see `dispatchers`)."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_producers.store import keys
from dingrelay_producers.store.record import Wakeup
from dingrelay_producers.store.states import CampaignState, State
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.campaigns import removal
from dingrelay_workers.campaigns.dispatcher import Dispatcher
from dingrelay_workers.database.database import Database
from dingrelay_workers.jobs.executor import Executor
from dingrelay_workers.resources import Resources
from support import campaigns
from support.jobs import Published, received

HOLDER = "dispatcher"
SEND = "/topapi/message/corpconversation/asyncsend_v2"


class Fleet:
    """A dispatcher, a worker, and backups of their Redis."""

    def __init__(self, resources: Resources, database: Database) -> None:
        self.redis, self.settings = resources.redis, resources.settings
        self.database = database
        self.wakeups: list[Wakeup] = []
        self.quota: Any = resources.quota
        self._executor = Executor(resources)
        self._records = resources.records

    async def publish_on_loop(self, wakeups: Iterable[Wakeup]) -> list[Any]:
        self.wakeups += wakeups
        return []

    def close(self) -> None:
        pass

    async def tick(self) -> None:
        """A dispatcher that has just begun does its work."""
        await self.redis.set(keys.DISPATCHER, HOLDER, px=60_000)
        publisher: Any = self
        dispatcher = Dispatcher(
            self._records,
            publisher,
            self.database,
            settings=CampaignSettings(),
            users_per_call=lambda _: 100,
            now=lambda: datetime.now(UTC),
        )
        dispatcher.begin(HOLDER)
        await dispatcher.tick()

    async def move(self, campaign: str, verb: str) -> None:
        """A person moves it, and the dispatcher does its work."""
        await campaigns.move(self.settings, self.database, campaign, verb)
        await self.tick()

    async def work(self, wakeups: Iterable[Wakeup]) -> None:
        for wakeup in wakeups:
            await self._executor.execute(received(wakeup))

    async def work_now(self, wakeup: Wakeup) -> State:
        """Run the job whatever it waits for; its state after."""
        await self.redis.hset(keys.job(wakeup.id), "due", 0)
        await self.work([wakeup])
        (state,) = await self._records.states([wakeup.id])
        return State(state or "")

    async def save(self) -> dict[Any, Any]:
        names = [name async for name in self.redis.scan_iter("dingrelay:*")]
        return {name: (await self.redis.dump(name), await self.redis.pttl(name)) for name in names}

    async def restore(self, saved: dict[Any, Any]) -> None:
        await self.redis.flushall()
        for name, (value, ttl) in saved.items():
            await self.redis.restore(name, ttl, value)


@pytest.fixture
def environment(
    sandbox_env: dict[str, str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment of a worker on a database of each kind, which has its tables."""
    for name, value in {**sandbox_env, "DINGRELAY_DATABASE_URL": database_url}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def fleet(environment: None, database: Database) -> AsyncIterator[Fleet]:
    publisher: Any = Published()
    async with Resources(Settings.load(), publisher) as resources:
        yield Fleet(resources, database)


@pytest.mark.parametrize("since", ["done", "deleted", "paused", "cancelled", "released again"])
async def test_sql_decides_after_a_restore(fleet: Fleet, sandbox: SandboxAdmin, since: str) -> None:
    campaign = await campaigns.put(fleet.database)
    await fleet.tick()
    saved, old = await fleet.save(), list(fleet.wakeups)
    assert len(old) == 2
    if since in {"done", "deleted"}:
        await fleet.work(old)
        await fleet.tick()
    if since == "deleted":
        await campaigns.hide(fleet.database, campaign)
        await removal.remove(fleet.database, campaign)
    if since in {"paused", "released again"}:
        await fleet.move(campaign, "pause")
    if since == "released again":
        await fleet.move(campaign, "resume")
        assert len(fleet.wakeups) == 4
    if since == "cancelled":
        await fleet.move(campaign, "cancel")
    calls = sandbox.audit()["delivered"]

    await fleet.restore(saved)
    await fleet.work(old)
    audit = sandbox.audit()
    assert (audit["delivered"], audit["dropped"]) == (calls, {})

    if since == "paused":
        await campaigns.move(fleet.settings, fleet.database, campaign, "resume")
    if since in {"paused", "released again"}:
        await fleet.tick()
        await fleet.work(fleet.wakeups[-2:])
        await fleet.tick()
        row = await campaigns.read(fleet.database, campaign)
        assert (row.state, row.accepted) == (CampaignState.DONE, 4)
        audit = sandbox.audit()
        assert (audit["delivered"], audit["dropped"]) == (4, {})


async def test_a_lost_answer_outlasts_the_quota(fleet: Fleet, sandbox: SandboxAdmin) -> None:
    campaign = await campaigns.put(fleet.database, people=2)
    await fleet.tick()
    (wakeup,) = fleet.wakeups
    sandbox.add_fault("lost_answer", api=SEND, count=1)
    assert await fleet.work_now(wakeup) == State.RETRYING
    fleet.quota._monthly = 0
    assert await fleet.work_now(wakeup) == State.SNOOZED
    await fleet.tick()
    assert (await campaigns.read(fleet.database, campaign)).state == CampaignState.RUNNING
    fleet.quota._monthly = None
    assert await fleet.work_now(wakeup) == State.DONE
    await fleet.tick()
    (chunk,) = await campaigns.chunks(fleet.database, campaign)
    assert (chunk.accepted, chunk.ambiguous) == (2, True)
    assert sandbox.audit()["delivered"] == 2
