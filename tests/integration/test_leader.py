"""One worker leads at a time, and each of its duties goes its own way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from conftest import wait_until_async
from dingrelay_producers.store import keys
from dingrelay_workers.maintenance import leader as leaders
from dingrelay_workers.maintenance.leader import WORK, Duty, Leader, Work
from support.workers import lead_once


class DatabaseAway(Exception):
    pass


class Counted(Work):
    """Work that counts its ticks, and does in each what a test wants."""

    database_away = DatabaseAway

    def __init__(self) -> None:
        super().__init__()
        self.ticks = 0
        self.held: list[str] = []
        self.closed = False
        self.error: Exception | None = None
        self.hangs = False
        self.steps = False
        self.pause: float | None = None

    def begin(self, holder: str) -> None:
        super().begin(holder)
        self.held.append(holder)

    async def tick(self) -> float | None:
        self.ticks += 1
        while self.hangs:
            await asyncio.sleep(0.02)
            if self.steps:
                self._step()
        if self.error is not None:
            raise self.error
        return self.pause

    async def close(self) -> None:
        self.closed = True


class Fleet:
    """Workers with two duties each."""

    def __init__(self, redis: Redis, closing: AsyncExitStack) -> None:
        self.redis = redis
        self._closing = closing
        self.opened: list[str] = []

    def worker(self) -> tuple[Leader, Counted, Counted]:
        works = Counted(), Counted()

        def opener(name: str, work: Work) -> Duty:
            async def open_(_: Callable[[], datetime]) -> Work:
                self.opened.append(name)
                return work

            return Duty(name, open_)

        leader = Leader(self.redis, WORK, [opener("a", works[0]), opener("b", works[1])])
        self._closing.push_async_callback(leader.close)
        return (leader, *works)

    async def lead(self, *leaders: Leader) -> None:
        """Work is announced, and each of these looks."""
        await WORK.announce(self.redis)
        for leader in leaders:
            await lead_once(leader)

    async def holder(self) -> bytes | None:
        found: bytes | None = await self.redis.get(keys.DISPATCHER)
        return found


@pytest.fixture
async def fleet(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    # What happens by itself after seconds must not on a busy machine, but where a test is about it.
    for name in ("ASK", "LEASE", "HAND_OVER"):
        monkeypatch.setattr(leaders, name, 600.0)
    async with AsyncExitStack() as closing:
        yield Fleet(redis, closing)


async def test_workers_that_do_not_lead_ask_redis_only(fleet: Fleet, redis: Redis) -> None:
    (one, first, other), (two, second, _) = fleet.worker(), fleet.worker()
    await lead_once(one)
    await lead_once(two)
    assert fleet.opened == [], "nothing was announced"
    await fleet.lead(two, one)
    assert (first.ticks, other.ticks, second.ticks) == (1, 1, 0)
    assert first.held == [one._holder]
    assert await fleet.holder() == one._holder.encode()
    await one.close()
    assert first.closed
    await lead_once(two)
    assert (first.ticks, second.ticks) == (1, 1)
    assert first.held[-1] == ""


async def test_workers_that_do_not_lead_look_less_often(fleet: Fleet, redis: Redis) -> None:
    (one, *_), (two, *_) = fleet.worker(), fleet.worker()
    assert (await one.look(), await two.look()) == (leaders.LOOK, leaders.STAND_BY)
    await one.close()
    assert await two.look() == leaders.LOOK < leaders.STAND_BY < leaders.LEASE


async def test_changes_during_a_turn_are_not_missed(fleet: Fleet, redis: Redis) -> None:
    leader, work, _ = fleet.worker()
    work.hangs = True
    await WORK.announce(redis)
    await leader.look()
    await wait_until_async(lambda: work.ticks, what="the turn has begun")
    await WORK.announce(redis)
    await leader.look()
    work.hangs = False
    await lead_once(leader)
    assert work.ticks == 2


async def test_without_a_signal_it_looks_after_a_while(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaders, "ASK", 0.05)
    leader, work, _ = fleet.worker()
    await leader.look()
    await wait_until_async(lambda: work.ticks > 2, what="it has looked")


async def test_between_two_looks_only_a_signal_counts(fleet: Fleet, redis: Redis) -> None:
    leader, work, _ = fleet.worker()
    await fleet.lead(leader, leader)
    assert work.ticks == 1
    await fleet.lead(leader)
    assert work.ticks == 2


async def test_a_duty_that_has_more_to_do_goes_on_by_itself(fleet: Fleet, redis: Redis) -> None:
    leader, work, other = fleet.worker()
    work.pause = 0.0
    await WORK.announce(redis)
    await leader.look()
    await wait_until_async(lambda: work.ticks > 20, what="it goes on")
    assert other.ticks == 1


async def test_a_turn_that_takes_longer_than_the_lease_keeps_it_and_stops_no_other_duty(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaders, "LEASE", 0.3)
    monkeypatch.setattr(leaders, "STUCK", 0.3)
    monkeypatch.setattr(leaders, "HAND_OVER", 0.0)
    (one, slow, other), (two, _, _) = fleet.worker(), fleet.worker()
    slow.hangs = slow.steps = True
    await WORK.announce(redis)
    await one.look()
    lease = await fleet.holder()
    for _ in range(20):
        await WORK.announce(redis)
        await one.look()
        await two.look()
        await asyncio.sleep(0.05)
    assert await fleet.holder() == lease
    assert (slow.ticks, other.ticks > 5) == (1, True)


async def test_a_duty_that_does_not_come_on_is_another_workers(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STUCK", "HAND_OVER"):
        monkeypatch.setattr(leaders, name, 0.1)
    (one, hangs, other), (two, second, _) = fleet.worker(), fleet.worker()
    hangs.hangs = True
    await WORK.announce(redis)

    async def is_twos() -> bool:
        await one.look()
        await two.look()
        return bool(two._holder)

    await wait_until_async(is_twos, what="another worker leads")
    await lead_once(two)
    assert second.ticks >= 1
    assert hangs.held[-1] == other.held[-1] == ""


@pytest.mark.parametrize("error", [DatabaseAway(), RedisConnectionError(), RuntimeError("a bug")])
async def test_a_duty_that_fails_stops_no_other_and_is_another_workers_in_the_end(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(leaders, "FAILURE_PAUSE", 0.01)
    (one, fails, other), (two, second, _) = fleet.worker(), fleet.worker()
    fails.error = error
    began = one._duties[0].carried_on
    await fleet.lead(one)
    await wait_until_async(lambda: fails.ticks > 2, what="it is tried again")
    assert one._duties[0].carried_on == began
    assert one._duties[1].carried_on > began
    await fleet.lead(one)
    assert other.ticks == 2
    assert other.held == [one._holder], "it goes on under the same lease"

    monkeypatch.setattr(leaders, "HAND_OVER", 0.0)
    await lead_once(one)
    assert not one._holder
    await lead_once(two)
    assert second.ticks == 1
    assert await fleet.holder() == two._holder.encode()


async def test_a_lease_that_ran_out_is_taken_under_another_name(fleet: Fleet, redis: Redis) -> None:
    leader, work, _ = fleet.worker()
    await fleet.lead(leader)
    first = leader._holder
    await redis.delete(keys.DISPATCHER)
    await lead_once(leader)
    assert leader._holder not in ("", first)
    assert await fleet.holder() == leader._holder.encode()
    assert work.held == [first, "", leader._holder]


async def test_a_lease_from_before_a_clock_step_is_free(fleet: Fleet, redis: Redis) -> None:
    await redis.set(keys.DISPATCHER, "gone", px=3_600_000)
    leader, _, _ = fleet.worker()
    await lead_once(leader)
    assert await fleet.holder() == leader._holder.encode() != b""
