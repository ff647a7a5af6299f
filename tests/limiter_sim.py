"""How much of a limit the limiter uses, in virtual time: its scripts, on a clock of our own.

Two processes with a full queue call a server that counts by one of the sandbox's windows, so many
milliseconds away. A minute takes a fraction of a second, and a seed gives the same one again.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from redis import Redis

from dingrelay_producers.store.scripts import run
from dingrelay_sandbox.windows import Rate, WindowKind, new_window
from dingrelay_workers.limiter import buckets
from dingrelay_workers.limiter.buckets import MICRO, Ask, Reply, SaneAnswers
from dingrelay_workers.limiter.rules import Rule
from dingrelay_workers.limiter.wait_queue import EARLY

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
