"""Random stories of a fleet: senders that come, grow impatient and cancel; workers and Redis that fail.

In virtual time, by seeds: what must hold of shares, of the limit and of each job, holds in all of them.
"""

import asyncio
import random
from collections import Counter

import pytest
from redis import Redis

from simulated_fleet import SimulatedFleet, simulate
from thorough import either

LIMIT = 10
RULES = {"*": {"calls": f"{LIMIT}/1s"}}
SENDERS = 10
SECONDS = 30
"""Time in which jobs come."""
GRACE = 30
"""Seconds after which a lost wake-up is looked for, and after which a lease ends."""
WINDOW = 5
"""Seconds over which shares are compared."""
LOCAL = 24
"""Jobs that wait in the three workers at most and were never parked: they stay there."""
OFF = LOCAL + 2
"""Calls by which a sender is ahead of its turns, or behind them, at most."""
ROUGHLY = OFF + 10
"""The same where jobs of killed workers wait for the end of their leases."""
BACK = 7
"""Seconds after a fault in which the fleet is at its full pace again: the scheduler's lease ends."""


class Story:
    """Events of a fleet, with their times.

    Attributes:
        fleet: to which it happens.
        faults: when a worker was killed, or Redis began with no data.
        forgotten: when Redis forgot what was last written.
    """

    def __init__(self, fleet: SimulatedFleet, chance: random.Random) -> None:
        self.fleet = fleet
        self.faults: list[float] = []
        self.forgotten: list[float] = []
        self._chance = chance
        self._jobs: dict[str, list[str]] = {}

    async def play(self, *, rough: bool) -> None:
        """All of it, until no job waits any more."""
        chance, fleet = self._chance, self.fleet
        fleet.lost, fleet.late = 0.01, 0.05
        plan = [(chance.uniform(0, SECONDS), self.burst) for _ in range(32)]
        plan += [(chance.uniform(5, SECONDS), self.cancellation) for _ in range(6)]
        if rough:
            plan += [(chance.uniform(5, SECONDS), self.kill) for _ in range(2)]
            plan += [(chance.uniform(5, SECONDS), self.step_back)]
            plan += [(SECONDS + 1, self.restart)]
        for at, event in sorted(plan, key=lambda planned: planned[0]):
            await asyncio.sleep(max(0.0, at - fleet.loop.time()))
            await event()
        fleet.lost = fleet.late = 0.0
        left = len(fleet.jobs) - len(fleet.calls) - len(fleet.cancelled)
        await asyncio.sleep(1.1 * left / LIMIT + 2 * GRACE + 10 + (GRACE if rough else 0))

    async def burst(self) -> None:
        sender = f"team-{round((SENDERS - 1) * self._chance.random() ** 2)}"
        jobs = await self.fleet.enqueue(sender, round(80 * self._chance.random() ** 3) + 1)
        self._jobs.setdefault(sender, []).extend(jobs)

    async def cancellation(self) -> None:
        sender = self._chance.choice(list(self._jobs))
        share = self._chance.choice([0.3, 1.0])
        await self.fleet.cancel(job for job in self._jobs[sender] if self._chance.random() < share)

    async def kill(self) -> None:
        self.faults.append(self.fleet.loop.time())
        self.fleet.kill()
        await self.fleet.spawn()

    async def restart(self) -> None:
        self.fleet.server.save()
        await asyncio.sleep(self._chance.uniform(0.2, 1))
        self.fleet.server.restart()
        self.forgotten.append(self.fleet.loop.time())
        self.faults.append(self.fleet.loop.time())

    async def step_back(self) -> None:
        self.fleet.server.epoch -= self._chance.choice([1, 3])

    def after_a_fault(self, start: float, end: float, seconds: float = BACK) -> bool:
        return any(fault < end and start < fault + seconds for fault in self.faults)


def most_at_once(story: Story) -> int:
    """The most calls in a second, but for the seconds of which Redis forgot calls."""
    moments = [call.at for call in story.fleet.calls]
    most, first = 0, 0
    for last, at in enumerate(moments):
        while moments[first] <= at - 1:
            first += 1
        if not any(at - 3 <= forgotten <= at + 3 for forgotten in story.forgotten):
            most = max(most, last - first + 1)
    return most


def check_limit(story: Story) -> None:
    assert most_at_once(story) <= LIMIT


def check_jobs(story: Story) -> None:
    """Each job has its one call, unless it was cancelled before or its worker was killed in it."""
    fleet = story.fleet
    calls = Counter(call.number for call in fleet.calls)
    cancelled = {moment.number: moment.at for moment in fleet.cancelled.values()}
    assert [call for call in fleet.calls if call.at > cancelled.get(call.number, 1e9) + 1] == []
    twice = [number for number, times in calls.items() if times > 1]
    assert len(twice) <= sum(calls[number] - 1 for number in twice) <= LIMIT * len(story.faults)
    never = [job for job in fleet.jobs.values() if job.number not in calls]
    assert [job for job in never if job.number not in fleet.unwanted] == []
    assert set(fleet.states()) <= {"done", "cancelled"}


class Ideal:
    """Calls by turns: each is of the sender that has had least while it waited.

    Attributes:
        calls: of each sender, had turns been kept to the call.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._jobs: Counter[str] = Counter()
        self._had: Counter[str] = Counter()
        self._left = 0

    def came(self, sender: str) -> None:
        """A worker has seen a job."""
        if sender not in self._waiting:
            least = min((self._had[each] for each in self._waiting), default=0)
            self._had[sender] = max(self._had[sender], least)
        self._jobs[sender] += 1
        self._share()

    def cancelled(self, sender: str) -> None:
        """One that waited was cancelled; what it has had here already is the others'."""
        self._jobs[sender] -= 1
        if self.calls[sender] > self._jobs[sender]:
            self.calls[sender] -= 1
            self._had[sender] -= 1
            self.called(sender)

    def called(self, _: str) -> None:
        """A call has left, of any job."""
        self._left += 1
        self._share()

    @property
    def _waiting(self) -> list[str]:
        return [sender for sender, jobs in self._jobs.items() if jobs > self.calls[sender]]

    def _share(self) -> None:
        while self._left and self._waiting:
            turn = min(self._waiting, key=self._had.__getitem__)
            self.calls[turn] += 1
            self._had[turn] += 1
            self._left -= 1


def furthest_off(story: Story) -> tuple[int, float, str]:
    """The largest lead or lag of a sender in calls; its time; the sender."""
    fleet, ideal = story.fleet, Ideal()
    events = [(moment.at, ideal.came, moment) for moment in fleet.seen.values()]
    events += [
        (moment.at, ideal.cancelled, moment)
        for job_id, moment in fleet.cancelled.items()
        if fleet.seen.get(job_id, moment).at < moment.at
    ]
    first: set[int] = set()
    for call in fleet.calls:
        if call.number not in first:
            first.add(call.number)
            events.append((call.at, ideal.called, call))
    had: Counter[str] = Counter()
    worst = 0, 0.0, ""
    for at, event, moment in sorted(events, key=lambda event: event[0]):
        event(moment.sender)
        if event == ideal.called:
            had[moment.sender] += 1
        for sender in {*had, *ideal.calls}:
            worst = max(worst, (abs(had[sender] - ideal.calls[sender]), at, sender))
    return worst


def check_limit_is_used(story: Story) -> None:
    """No slot goes by unused while jobs wait that some worker has seen."""
    fleet = story.fleet
    for start in range(2, SECONDS + 60):
        end = start + WINDOW
        waiting = fleet.shares(start, end).waiting
        if sum(waiting.values()) >= 1.2 * LIMIT * WINDOW and not story.after_a_fault(start, end):
            calls = sum(start <= call.at < end for call in fleet.calls)
            assert calls >= 0.95 * LIMIT * WINDOW, (start, calls)


@pytest.mark.parametrize("rough", either([True], [False, True]), ids="rough={}".format)
@pytest.mark.parametrize("seed", range(either(1, 20)))
def test_shares_and_limits_hold_under_faults(store: Redis, seed: int, rough: bool) -> None:
    async def play() -> None:
        async with SimulatedFleet(store, rules=RULES, processes=3, seed=seed) as fleet:
            story = Story(fleet, random.Random(seed))
            await story.play(rough=rough)
            check_limit(story)
            check_jobs(story)
            check_limit_is_used(story)
            assert furthest_off(story)[0] <= (ROUGHLY if rough else OFF)

    simulate(play)
