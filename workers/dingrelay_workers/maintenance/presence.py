"""Detects workers that are gone: each sends heartbeats, and one without any is gone.

A job's lease would show it too, but three times as late. `Leases` renews those of the jobs that run, `Deadlines` ends
those that run for too long.
"""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from weakref import WeakSet

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store import keys
from dingrelay_producers.store.flows import Flow
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import Call
from dingrelay_producers.store.transitions import PLACES
from dingrelay_workers import minutes
from dingrelay_workers.metrics import RUNNING
from dingrelay_workers.store.records import Claim, Records


@script("dingrelay_workers.maintenance")
def _sign(*, presence: Key, worker: str, sign: str | None, ttl: int) -> None:
    """Without a sign that of the worker is taken away."""


@script("dingrelay_workers.maintenance", PLACES)
def _vanished(*, presence: Key, worker: str, sign: str, start: int, count: int, held: int) -> None:
    """A worker whose last sign this was: `start` and `count` as of `vanished`, `held` wake-ups of a queue."""


TIMEOUT = 6.0
"""Seconds without a sign of life after which a worker counts as gone, and its jobs are free: longer than a
failover of Redis."""
SIGNS = 6
"""Signs of life within the time after which a worker counts as gone."""
SLACK = 0.001
"""Seconds by which sums of floats may be off."""
AT_ONCE = 2000
"""Running jobs that one script looks at, so that it does not hold up the server for long."""
HELD = 200
"""Wake-ups of a queue that a worker can have taken from the broker and not claimed: as many as it
runs jobs at once, and it takes 20 in one round trip. Beyond that they are found after a grace."""

log = get_logger("dingrelay.presence")


class Watch:
    """Decides from the heartbeats of all workers which of them are gone.

    Only this process's monotonic clock counts, and only time in which it watched: between two checks
    at most two heartbeats are missed, however late the second one is. After a silence of Redis, or a
    stall of this process, all get their full time again.

    Args:
        timeout: seconds without a sign after which a worker is gone, unless it asks for more.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._silent: dict[str, tuple[str, float]] = {}
        self._looked: float | None = None

    def find_silent(self, signs: Mapping[str, str], at: float) -> list[str]:
        """The workers that are gone, given each one's latest sign at this moment in seconds."""
        passed = 0.0 if self._looked is None else at - self._looked
        earlier = self._silent if 0 < passed <= self._timeout else {}
        passed = min(passed, 2 * self._timeout / SIGNS)
        self._looked = at
        self._silent = {}
        for worker, sign in signs.items():
            before, silent = earlier.get(worker, ("", 0.0))
            self._silent[worker] = sign, silent + passed if before == sign else 0.0
        return [
            worker
            for worker, (sign, silent) in self._silent.items()
            if silent >= max(self._timeout, _timeout_of(sign)) - SLACK
        ]

    def interrupt(self) -> None:
        """Redis could not be reached."""
        self._looked = None


class Presence:
    """Writes this worker's signs of life, and ends the leases of workers that give none.

    It does no I/O: a thread runs its flows (`PresenceThread`), or an event loop.

    Args:
        worker: this process, as it owns jobs.
        timeout: seconds that a worker may be silent.

    Attributes:
        period: seconds between two signs.
    """

    def __init__(self, *, worker: str, timeout: float = TIMEOUT) -> None:
        self.period = timeout / SIGNS
        self._worker = worker
        self._timeout = timeout
        self._watch = Watch(timeout)
        self._beats = 0

    def beat(self) -> Flow[None]:
        """Give one sign, and look at those of the others."""
        self._beats += 1
        pairs: list[bytes] = yield self._signed(f"{self._beats} {self._timeout}")
        # Unparsable names are no workers, and must not keep this worker from sending heartbeats.
        texts = [text.decode(errors="replace") for text in pairs]
        signs = dict(zip(texts[::2], texts[1::2], strict=True))
        for worker in self._watch.find_silent(signs, time.monotonic()):
            yield from self.end_leases(worker, signs[worker])

    def end_leases(self, worker: str, sign: str) -> Flow[None]:
        """Free what a worker that is gone ran and held, unless it has given another sign since."""
        start, ended = yield vanished(worker, sign)
        while start > 0:
            start, leases = yield vanished(worker, sign, start)
            ended += leases
        if start == 0:
            log.warning("worker_vanished", worker=worker, jobs=ended)

    def leave(self) -> Flow[None]:
        """This process has released its jobs: it is not to be found gone."""
        yield self._signed(None)

    def interrupt(self) -> None:
        """Redis could not be reached."""
        self._watch.interrupt()

    def _signed(self, sign: str | None) -> Call:
        return _sign(
            presence=keys.PRESENCE, worker=self._worker, sign=sign, ttl=keys.PRESENCE_TTL_MS
        )


def vanished(worker: str, sign: str, start: int = 0, count: int = AT_ONCE) -> Call:
    """End a worker's leases that end at `start` (ms) or later, `count` of all running jobs a time.

    Answers where to go on: 0 if that was all, -1 if the worker lives or another one has done it;
    and how many leases were ended.
    """
    return _vanished(
        presence=keys.PRESENCE, worker=worker, sign=sign, start=start, count=count, held=HELD
    )


def _timeout_of(sign: str) -> float:
    """The timeout in a worker's heartbeat: that of its own settings."""
    try:
        return float(sign.partition(" ")[2])
    except ValueError:
        return 0.0


class Leases:
    """Renews the leases of running jobs, and stops a job whose lease went to another worker."""

    def __init__(self, records: Records, *, lease: float) -> None:
        self._records = records
        self._period = lease / 4
        self._held: dict[str, tuple[Claim, asyncio.Task[object]]] = {}

    @contextmanager
    def held(self, claim: Claim) -> Generator[None]:
        """Own the job of this claim while the current asyncio task runs it."""
        task = asyncio.current_task()
        assert task is not None
        self._held[claim.nonce] = claim, task
        RUNNING.inc()
        try:
            yield
        finally:
            del self._held[claim.nonce]
            RUNNING.dec()
            minutes.MINUTES.count(minutes.worker(claim.nonce.partition("/")[0]))

    @property
    def count(self) -> int:
        """How many jobs this process runs."""
        return len(self._held)

    async def beat(self) -> None:
        """Renew all leases once; a job that is another worker's by now is cancelled here."""
        held = list(self._held.values())
        lost = await self._records.heartbeat([claim for claim, _ in held])
        for claim, task in held:
            if claim.nonce in lost and claim.nonce in self._held:
                task.cancel("lease lost")

    async def keep(self) -> None:
        """Renew for ever, a few times within each lease."""
        while True:
            await asyncio.sleep(self._period)
            try:
                await self.beat()
            except (RedisError, OSError):
                # Redis is away: the leases run out by themselves if it stays away.
                continue


class Deadlines:
    """A time limit for each body; a worker that stops shortens all of them at once.

    Args:
        longest: seconds that a body may run.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._end: float | None = None
        self._running: WeakSet[asyncio.Timeout] = WeakSet()

    def kept(self) -> asyncio.Timeout:
        """A limit to run within; it raises TimeoutError once it is over."""
        when = asyncio.get_running_loop().time() + self._longest
        limit = asyncio.timeout_at(when if self._end is None else min(when, self._end))
        self._running.add(limit)
        return limit

    def shorten(self, seconds: float) -> None:
        """Let no body run for longer than this from now."""
        self._end = asyncio.get_running_loop().time() + seconds
        for limit in self._running:
            when = limit.when()
            if when is None or when > self._end:
                limit.reschedule(self._end)
