"""A minute of a saturated limit in virtual time: how much of it is used, and at what price."""

import heapq
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from redis import Redis

from dingrelay_producers.store.scripts import run
from dingrelay_sandbox.windows import Rate, WindowKind, new_window
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import MICRO, Ask, Reply, SaneAnswers
from dingrelay_workers.limiter.rules import Rule, Rules
from dingrelay_workers.limiter.wait_queue import EARLY
from support.examples import either

EPOCH = 1_800_000_000
PAUSE = 1.0
"""Seconds that a throttling answer asks for (API §5.3)."""
TIMERS = 0.002
"""Seconds by which a call may leave late."""
NEAR, FAR = (0.005, 0.03), (0.005, 0.1)
"""Latencies: the shortest and the longest way, in seconds, there as back."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The server's verdict on a call."""

    at: float
    taken: bool


@dataclass
class Simulation:
    """A fleet with always one more call to make, and the server that it calls.

    Attributes:
        redis: an empty database.
        window: by which the server counts.
        latency: seconds of the shortest and the longest way, there as back.
        seed: of all that is random.
        limit: calls a second; what the fleet takes the limit to be.
        changes: when (s) the server's limit becomes another, in order.
        processes: that share the limit.
    """

    redis: Redis
    window: WindowKind
    latency: tuple[float, float]
    seed: int
    limit: int = 20
    changes: Sequence[tuple[float, int]] = ()
    processes: int = 2
    verdicts: list[Verdict] = field(default_factory=list[Verdict], init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        # The server's windows begin anywhere in our seconds.
        self._began = EPOCH + self._random.random()
        self._rule = Rule("app:bench", "message.send", "calls", self.limit, 1)
        self._latencies = [SaneAnswers() for _ in range(self.processes)]
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changes = list(self.changes)
        self._server = new_window(self.window, Rate(self.limit, 1))
        self._now = 0.0

    def run(self, seconds: float) -> None:
        """Let so many seconds pass, from a cold start."""
        for process in range(self.processes):
            self._after(self._random.random() * TIMERS, lambda process=process: self._ask(process))
        while self._events[0][0] < seconds:
            self._now, _, event = heapq.heappop(self._events)
            event()

    def used(self, start: float, end: float, limit: int | None = None) -> float:
        """Share of the limit that was used in a time."""
        taken = sum(verdict.taken for verdict in self._seen(start, end))
        return taken / ((limit or self.limit) * (end - start))

    def refused(self, start: float, end: float) -> float:
        """Share of the calls that were refused in a time."""
        seen = self._seen(start, end)
        return sum(not verdict.taken for verdict in seen) / max(1, len(seen))

    @property
    def rate(self) -> float:
        """Calls a second, as the fleet paces them by now."""
        return float(self.redis.hget(self._rule.key, "rate") or self._rule.rate)

    def _seen(self, start: float, end: float) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if start <= verdict.at < end]

    def _after(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._numbers), event))

    def _way(self) -> float:
        return self._random.uniform(*self.latency)

    def _micros(self) -> int:
        return round((EPOCH + self._now) * MICRO)

    def _ask(self, process: int) -> None:
        """Ask for one slot, as the head of a line does, and for the next one just before it."""
        call = buckets.acquire((self._rule,), "normal", [Ask((1,))], self._micros())
        reply = Reply.read(run(self.redis, call))
        if reply.starts:
            (start,) = reply.starts
            self._after(start, lambda: self._leave(process, probing=reply.probing))
            self._after(max(TIMERS, start + reply.slot - EARLY), lambda: self._ask(process))
        else:
            self._after(max(TIMERS, reply.wait), lambda: self._ask(process))

    def _leave(self, process: int, *, probing: bool) -> None:
        slot = self._now
        late = self._random.random() * TIMERS
        self._after(late + self._way(), lambda: self._arrive(process, slot, probing=probing))

    def _arrive(self, process: int, slot: float, *, probing: bool) -> None:
        while self._changes and self._now >= self._changes[0][0]:
            _, limit = self._changes.pop(0)
            self._server = new_window(self.window, Rate(limit, 1))
        at = self._began + self._now
        taken = self._server.room(at) >= 1
        if taken:
            self._server.take(at)
        self.verdicts.append(Verdict(self._now, taken))
        answered = self._took if taken else self._throttled
        self._after(self._way(), lambda: answered(process, slot, probing=probing))

    def _took(self, process: int, slot: float, *, probing: bool) -> None:
        self._latencies[process].add(self._now - slot)
        if probing:
            run(self.redis, buckets.ended((self._rule,), self._micros(), probed=True))

    def _throttled(self, process: int, slot: float, *, probing: bool) -> None:
        spread = self._latencies[process].spread
        run(self.redis, buckets.penalize(self._rule, PAUSE, "90018", spread, self._micros()))


SEEDS = either((1,), (1, 2, 3))


@pytest.fixture
def redis(valkey_url: str) -> Iterator[Redis]:
    with Redis.from_url(valkey_url) as redis:
        yield redis


@pytest.mark.parametrize(
    ("latency", "window", "used", "refused"),
    [
        (NEAR, "calendar", 0.98, 0.003),
        (NEAR, "bucket", 0.98, 0.003),
        (NEAR, "sliding", 0.95, 0.003),
        (FAR, "calendar", 0.97, 0.015),
        (FAR, "bucket", 0.97, 0.015),
        (FAR, "sliding", 0.90, 0.015),
    ],
)
def test_a_minute_from_a_cold_start_uses_the_limit_and_seldom_meets_it(
    redis: Redis, latency: tuple[float, float], window: WindowKind, used: float, refused: float
) -> None:
    for seed in SEEDS:
        redis.flushall()
        simulation = Simulation(redis, window, latency, seed)
        simulation.run(60)
        assert simulation.used(0, 60) >= used
        assert simulation.refused(0, 60) <= refused


@pytest.mark.parametrize("window", ["calendar", "bucket", "sliding"])
def test_the_rate_follows_a_limit_that_falls_and_rises(redis: Redis, window: WindowKind) -> None:
    simulation = Simulation(redis, window, NEAR, 1, changes=((8, 10), (24, 20)))
    simulation.run(52)
    assert simulation.refused(8, 13) <= 0.15
    assert simulation.used(13, 24, 10) >= 0.9
    assert simulation.refused(13, 24) <= 0.08
    assert simulation.used(49, 52) >= 0.94


@pytest.mark.parametrize(("late", "used"), [(0, 190), (0.6, 180), (4, 160), (25, 160)])
def test_a_robot_is_used_to_its_limit_and_never_beyond(
    redis: Redis, late: float, used: int
) -> None:
    """Ten minutes: 95 % of 20 a minute or more, and never a 21st call within a minute, though each fifth is late."""
    redis.flushall()
    rules = Rules.from_settings({}, "office").of("robots", "robot.webhook@abc")
    began = 1_800_000_000 * MICRO
    now, starts = began, list[float]()
    under_way: list[int] = []
    while now < began + 600 * MICRO:
        while under_way and under_way[0] <= now:
            charged = rules[0], min(1.0, late * rules[0].rate)
            run(redis, buckets.ended(rules, under_way.pop(0), charged=charged))
        call = buckets.acquire(rules, "normal", [Ask((1, 1))], now)
        reply = Reply.read(run(redis, call))
        for start in reply.starts:
            arrives = (now - began) / MICRO + start
            if late and len(starts) % 5 == 0:
                arrives += late
                under_way.append(began + round(arrives * MICRO))
            starts.append(arrives)
        now += max(1_000, round(reply.wait * MICRO))
    assert sum(at < 600 for at in starts) >= used
    assert max(sum(at <= other < at + 60 for other in starts) for at in starts) <= 20
