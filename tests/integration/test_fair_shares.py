"""Senders share a lane evenly at any time, in whatever order and numbers their jobs come.

In virtual time: several workers, their wait queues, parked jobs and the scheduler.
"""

import asyncio
import random

import pytest
from redis import Redis

from simulated_fleet import SimulatedFleet, simulate
from thorough import either

LIMIT = 20
RULES = {"*": {"calls": f"{LIMIT}/1s"}}
SENDERS, FEW, MANY = either(30, 100), 7, 120
SIZES = [FEW + round((MANY - FEW) * (number / (SENDERS - 1)) ** 12) for number in range(SENDERS)]
"""Jobs of each sender: a few have a hundred, and most have six."""
SETTLED = 4
"""Seconds after the last burst until what left its place before it has had its call."""
OFF = 2
"""Calls that a sender has more or less than its share of a window at most."""


async def check(fleet: SimulatedFleet, seconds: float) -> None:
    """The next seconds are shared evenly, and the limit is used."""
    began = fleet.loop.time()
    await asyncio.sleep(seconds)
    shares = fleet.shares(began, began + seconds)
    assert shares.calls.total() >= 0.97 * LIMIT * seconds
    assert max(shares.most_over, shares.most_short) <= OFF, (began, shares)


@pytest.mark.parametrize("seed", range(either(1, 10)))
def test_bursts_in_any_order_share_the_limit_evenly(store: Redis, seed: int) -> None:
    async def story() -> None:
        chance = random.Random(seed)
        order = chance.sample(range(SENDERS), SENDERS)

        async def burst(number: int, at: float) -> None:
            await asyncio.sleep(at)
            await fleet.enqueue(f"team-{number}", SIZES[number])

        async with SimulatedFleet(store, rules=RULES, processes=3, seed=seed) as fleet:
            async with asyncio.TaskGroup() as group:
                for number in order:
                    group.create_task(burst(number, chance.uniform(0, 2)))
            await asyncio.sleep(SETTLED)
            await check(fleet, either(6, 18))
            # A parked job is run twice, and hardly one is woken in vain.
            assert fleet.runs < 1.05 * (len(fleet.seen) + len(fleet.calls))

    simulate(story)


def test_a_long_queue_does_not_stand_between_those_who_wait_and_their_turns(store: Redis) -> None:
    """The wake-ups of parked jobs stand behind a flood that one worker takes 12 s to look at."""

    async def story() -> None:
        async with SimulatedFleet(store, rules=RULES, processes=1, cost=0.024) as fleet:
            for number in range(5):
                await fleet.enqueue(f"team-{number}", 40)
            await fleet.enqueue("flood", 500)
            await asyncio.sleep(2 + SETTLED)
            await check(fleet, 4)
            assert len(fleet.seen) < 200 + 500

    simulate(story)


def test_a_later_sender_shares_from_then_on(store: Redis) -> None:
    async def story() -> None:
        async with SimulatedFleet(store, rules=RULES) as fleet:
            await fleet.enqueue("first", 240)
            await asyncio.sleep(8)
            for number in range(4):
                await fleet.enqueue(f"later-{number}", 40)
            await asyncio.sleep(SETTLED)
            await check(fleet, 4)

    simulate(story)


def test_jobs_that_were_cancelled_hold_no_place(store: Redis) -> None:
    async def story() -> None:
        async with SimulatedFleet(store, rules=RULES) as fleet:
            jobs = await fleet.enqueue("impatient", 250)
            await asyncio.sleep(4)
            await fleet.cancel(jobs)
            before = len(fleet.calls)
            began = fleet.loop.time()
            await fleet.enqueue("impatient", 60)
            on_their_way = 250 - len(fleet.cancelled) - before
            await asyncio.sleep(1.1 * (60 + on_their_way) / LIMIT + 1)
            assert len(fleet.calls) - before == 60 + on_their_way, fleet.loop.time() - began

    simulate(story)
