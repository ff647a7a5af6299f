"""The jobs that this process runs: the leases by which it owns them, and how long their bodies may run."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from redis.exceptions import RedisError

from dingrelay_workers.metrics import RUNNING
from dingrelay_workers.store.records import Claim, Records


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
        self._running: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def kept(self) -> AsyncGenerator[None]:
        """Run within the time limit.

        Raises:
            TimeoutError: it is over.
        """
        when = asyncio.get_running_loop().time() + self._longest
        async with asyncio.timeout_at(when if self._end is None else min(when, self._end)) as limit:
            self._running.add(limit)
            try:
                yield
            finally:
                self._running.discard(limit)

    def shorten(self, seconds: float) -> None:
        """Let no body run for longer than this from now."""
        self._end = asyncio.get_running_loop().time() + seconds
        for limit in self._running:
            when = limit.when()
            if when is None or when > self._end:
                limit.reschedule(self._end)
