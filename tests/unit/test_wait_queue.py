"""The local waiters of a limit, against buckets that answer anything, at any time."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from conftest import wait_until_async
from dingrelay_workers.limiter import wait_queue
from dingrelay_workers.limiter.breakers import Breakers
from dingrelay_workers.limiter.buckets import Ask, Reply, SaneAnswers
from dingrelay_workers.limiter.rules import Rules
from dingrelay_workers.limiter.slot import Slot, SlotRequest, Turns
from dingrelay_workers.limiter.wait_queue import WaitQueue
from support.examples import either

WAITERS = 12
LANE = Turns("default", "message.send", "normal")
ALL_RULES = Rules.from_settings({"*": {"calls": "100/1s"}}, "office")
RULES = ALL_RULES.of("default", "message.send")


def queue(redis: Any = None) -> WaitQueue:
    """The lane's queue."""
    breakers = Breakers(redis, ALL_RULES)
    return WaitQueue(
        redis,
        RULES,
        LANE,
        max_wait=60,
        circuit=breakers.circuit("default", "message.send", "oapi"),
        breakers=breakers,
        answers=SaneAnswers(),
    )


def reply(starts: Sequence[float], *, wait: float = 0, voids: int = 0) -> Reply:
    return Reply(
        starts=tuple(starts),
        wait=wait,
        probing=False,
        voids=voids,
        parked=0,
        slot=0.01,
        reason="",
    )


class Buckets:
    """They answer late, give slots that are near or far, and pauses come in between."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.queue = queue(self)
        self.voids = 0

    async def answer(self, waiters: int) -> Reply:
        await asyncio.sleep(self.rng.choice((0, 0, 0.005, 0.03, 0.15)))
        granted = self.rng.randint(0, min(3, waiters))
        starts = sorted(self.rng.choice((0, 0, 0.02, 0.12, 0.2)) for _ in range(granted))
        wait = self.rng.choice((0.001, 0.02, 0.1)) if granted < waiters else 0
        self.voids += self.rng.random() < 0.2
        return reply(starts, wait=wait, voids=self.voids)

    async def revoke(self) -> None:
        """Penalties that this process itself hears of."""
        for _ in range(3):
            await asyncio.sleep(self.rng.random() / 5)
            self.queue.revoke_slots()

    async def one(self, number: int) -> Slot | None:
        await asyncio.sleep(self.rng.random() / 5)
        waiting = self.queue.slot(SlotRequest(LANE, sender=f"sender {number % 3}"))
        if self.rng.random() < 0.8:
            return await waiting
        task = asyncio.create_task(waiting)  # its job is cancelled while it waits
        await asyncio.sleep(self.rng.random() / 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return None


def _acquire(_: object, lane: str, asks: Sequence[Ask], **__: Any) -> int:
    return len(asks)


async def _ask(redis: Any, waiters: int) -> Reply:
    buckets: Buckets = redis
    return await buckets.answer(waiters)


async def test_everyone_leaves_whatever_the_buckets_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_queue, "acquire", _acquire)
    monkeypatch.setattr(wait_queue, "ask", _ask)
    everyone: list[Buckets] = [Buckets(seed) for seed in range(either(100, 2_000))]
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(buckets.one(number) for buckets in everyone for number in range(WAITERS)),
            *(buckets.revoke() for buckets in everyone),
        )
    for buckets in everyone:
        assert len(buckets.queue) == 0
        assert not buckets.queue._held
        await buckets.queue.stop()


async def test_a_revoked_far_slot_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [reply([5.0]), reply([0.0])]

    async def answer(*_: Any, **__: Any) -> Reply:
        return replies.pop(0)

    monkeypatch.setattr(wait_queue, "ask", answer)
    line = queue()

    leaving = asyncio.create_task(line.slot(SlotRequest(LANE)))
    async with asyncio.timeout(20):
        await wait_until_async(lambda: line._held, what="it has its slot")
        line.revoke_slots()
        assert await leaving is not None
    await line.stop()
