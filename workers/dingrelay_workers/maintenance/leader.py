"""Does work that only one worker of the fleet may do at a time: a leader, by a lease in Redis.

A leader has several duties, each a task of its own: one that fails, hangs or is slow stops no other, and
does not cost the lease. SQL alone decides whether there is anything to do. The worker with the lease asks it
every few seconds, and at once where a value in Redis has changed: code that makes work changes it. So work
begins at once, and is not missed if that signal is lost. The other workers ask Redis only, and load no SQLAlchemy.

Each lease has a name of its own, so writes to Redis under an earlier one are refused.
"""

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import clock, keys
from dingrelay_producers.store.script_functions import Key, script
from dingrelay_producers.store.scripts import run_async
from dingrelay_producers.store.transitions import TIME
from dingrelay_workers.maintenance.pace import in_step
from dingrelay_workers.metrics import LEAD_IDLE_SECONDS
from dingrelay_workers.store.records import Records

if TYPE_CHECKING:
    from dingrelay_workers.database.database import Database

Now = Callable[[], datetime]
"""Redis's time."""
LEASE = 4.0
"""Seconds after which another worker leads, if the one that did is gone. As that of the scheduler, the same
in all releases that share a Redis (`lead.lua`)."""
LOOK = 0.25
"""Seconds between two looks of the leader at its lease and the signal: what work that is made may wait."""
STAND_BY = LEASE / 4
"""Seconds between two looks of the other workers at the lease: they need no signal."""
ASK = 3.0
"""Seconds between two questions to SQL while there is nothing to do: what work may wait whose signal
was lost. It is one cheap query of a duty, of one worker in the fleet."""
STUCK = 120.0
"""Seconds without a step of a duty, after which it is begun again: more than a database needs
for some slow statements, or to report that a transaction was given up."""
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the database was away."""
HAND_OVER = 5.0
"""Seconds for which a duty may fail until the lease goes to another worker, which may reach what this one can't."""


@script("dingrelay_workers.maintenance", TIME)
def _lead(*, lease: Key, signal: Key, holder: str, fresh: str, lasts: int, signal_ttl: int) -> None:
    """`holder` is the name under which this worker had the lease, `fresh` that under which it would take it, both or ''.

    It `lasts` so long (ms); 0 gives it up.
    """


log = get_logger("dingrelay.leader")


@dataclass(frozen=True, slots=True)
class Lease:
    """A leader's lease.

    Attributes:
        key: of the lease.
        signal: key of the value that changes when there is something to do.
    """

    key: str
    signal: str

    async def announce(self, redis: Redis) -> None:
        """Signal to the fleet that there is something to do."""
        await redis.set(self.signal, uuid.uuid4().hex, px=keys.SIGNAL_TTL_MS)


WORK = Lease(keys.DISPATCHER, keys.CAMPAIGNS)
"""Lease of the leader for campaigns, the history and syncs."""
NOTICES = Lease(keys.WEBHOOK_LEADER, keys.WEBHOOKS)
"""Lease of the leader for webhooks. Their leader makes the requests to endpoints itself, which not every worker can
reach: so it is one of those that serve their queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderParts:
    """Everything that the duties of a worker work with.

    Attributes:
        database: opens the database at its first use.
        users_per_call: how many people a call of an app may have.
    """

    records: Records
    publisher: Publisher
    database: Callable[[], "Database"]
    settings: Settings
    users_per_call: Callable[[str], int]


class Work(ABC):
    """The work of a duty.

    Attributes:
        database_away: what it raises where the database is away.
        holder: the value of the lease under which it acts.
        stepped: when it last came on, by the monotonic clock.
    """

    database_away: type[Exception]

    def __init__(self) -> None:
        self.holder = ""
        self.stepped = time.monotonic()

    def begin(self, holder: str) -> None:
        """The lease is this worker's again, or no more with "": what was remembered may be old."""
        self.holder = holder

    @abstractmethod
    async def tick(self) -> float | None:
        """Do some of it; seconds until the next time, None if there is nothing to do."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End what goes on between ticks; the worker stops."""

    def _step(self) -> None:
        """It comes on."""
        self.stepped = time.monotonic()


class _Stuck(Exception):
    """A duty does not come on."""


class Duty:
    """A duty of a leader, in this worker.

    Args:
        name: for logs and metrics.
        open_: makes its work, with Redis's time, once that is to be done.
    """

    def __init__(self, name: str, open_: Callable[[Now], Awaitable[Work]]) -> None:
        self.name = name
        self._open = open_
        self.work: Work | None = None
        self.news = asyncio.Event()
        self.busy = False
        self.carried_on = time.monotonic()
        self.failing_since: float | None = None

    def idle(self) -> float:
        """Seconds since the duty was last done here."""
        return time.monotonic() - self.carried_on

    async def perform(self, holder: str) -> None:
        """Do the duty under a lease, for ever."""
        pause: float | None = None
        self.failing_since = None
        while True:
            if pause is None:
                with suppress(TimeoutError):
                    async with asyncio.timeout(ASK):
                        await self.news.wait()
            else:
                await asyncio.sleep(pause)
            self.news.clear()
            self.busy = True
            pause = await self._tick(holder)
            self.busy = False

    async def _tick(self, holder: str) -> float | None:
        database_away: type[Exception] = _Stuck
        try:
            work = self.work = self.work or await self._open(clock.now)
            database_away = work.database_away
            if work.holder != holder:
                log.info("leader_elected", role=self.name)
                work.begin(holder)
            pause = await _watched(work)
        except (_Stuck, RedisError, OSError) as error:
            self._failed(str(error) if isinstance(error, _Stuck) else type(error).__name__)
        except database_away as error:
            self._failed(type(error).__name__)
        except Exception:
            log.exception("background_failed", work=self.name)
            self._failed("bug")
        else:
            self.failing_since, self.carried_on = None, time.monotonic()
            return pause
        return FAILURE_PAUSE

    def _failed(self, reason: str) -> None:
        log.warning("turn_failed", role=self.name, reason=reason)
        self.failing_since = self.failing_since or time.monotonic()
        self.leave()

    def leave(self) -> None:
        """Forget the remembered state: it may be out of date by the next time."""
        if self.work is not None and self.work.holder:
            self.work.begin("")


async def _watched(work: Work) -> float | None:
    """A tick of the work, for as long as it comes on."""
    work.stepped = time.monotonic()
    tick = asyncio.ensure_future(work.tick())
    try:
        while not (await asyncio.wait({tick}, timeout=min(LEASE, STUCK) / 4))[0]:
            if time.monotonic() - work.stepped > STUCK:
                raise _Stuck("a turn does not come on")
        return tick.result()
    finally:
        tick.cancel()
        await asyncio.gather(tick, return_exceptions=True)


class Leader:
    """Leads in one of the workers that may, one at a time.

    Args:
        redis: where the lease is.
        lease: under which it leads.
        duties: what it does then.
    """

    def __init__(self, redis: Redis, lease: Lease, duties: Sequence[Duty]) -> None:
        self._redis = redis
        self._lease = lease
        self._duties = duties
        self._tasks: list[asyncio.Task[None]] = []
        self._holder = ""
        self._seen = ""

    async def run(self) -> None:
        """Lead for ever."""
        for duty in self._duties:
            duty.carried_on = time.monotonic()
            LEAD_IDLE_SECONDS.labels(duty.name).set_function(duty.idle)
        since = time.monotonic()
        while True:
            try:
                pause = await self.look()
            except (RedisError, OSError) as error:
                log.warning("lead_failed", lease=self._lease.key, reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await in_step(since, pause)

    async def look(self) -> float:
        """Keep the lease, or take it, and have the duties done; seconds until the next time."""
        began = time.monotonic() - HAND_OVER
        if any(duty.failing_since and duty.failing_since < began for duty in self._duties):
            await self.stop()
            return FAILURE_PAUSE
        name, signal = await self._take_lease(uuid.uuid4().hex, LEASE)
        if name != self._holder:
            await self._leave_duties()
            self._holder = name
            # Without a word nothing was made for an hour, or Redis has lost it.
            self._seen = ""
            if name:
                performs = [duty.perform(name) for duty in self._duties]
                self._tasks = [asyncio.ensure_future(perform) for perform in performs]
        if name and signal != self._seen:
            self._seen = signal
            for duty in self._duties:
                duty.news.set()
        return LOOK if name else STAND_BY

    async def close(self) -> None:
        """End the work, and let another worker lead at once."""
        await self._leave_duties(end=True)
        await self.stop()

    async def stop(self) -> None:
        """Let another worker lead at once."""
        await self._leave_duties()
        if self._holder:
            await self._take_lease("", 0)
            self._holder = ""

    async def _leave_duties(self, *, end: bool = False) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for duty in self._duties:
            duty.busy, duty.failing_since = False, None
            duty.news.clear()
            if end and duty.work is not None:
                await duty.work.close()
            duty.leave()

    async def _take_lease(self, fresh: str, lease: float) -> tuple[str, str]:
        """Keep the lease, or take it under a fresh name; the name and the signal."""
        call = _lead(
            lease=self._lease.key,
            signal=self._lease.signal,
            holder=self._holder,
            fresh=fresh,
            lasts=int(lease * 1000),
            signal_ttl=keys.SIGNAL_TTL_MS,
        )
        began = time.monotonic()
        name, signal, now = await run_async(self._redis, call)
        clock.CLOCK.note(now / 1000, began, time.monotonic())
        return name.decode(), signal.decode()
