"""Runs work that only one worker of the fleet may do at a time: a leader, by a lease in Redis.

SQL alone decides whether there is anything to do. The worker with the lease polls it every few
seconds, and at once where a value in Redis has changed: code that makes work changes it. So work
begins at once, and is not missed if that signal is lost. The other workers poll Redis only, and
load no SQLAlchemy.

The lease is renewed while a turn lasts, as long as the turn makes progress. Each lease has a name
of its own, so writes to Redis under an earlier one are refused.
"""

import asyncio
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_workers.metrics import LEAD_IDLE_SECONDS

LEASE = 4.0
"""Seconds after which another worker leads, if the one that did is gone. As that of the scheduler, the same
in all releases that share a Redis (`lead.lua`)."""
LOOK = 0.25
"""Seconds between looks at the signal: what work that is made may wait."""
ASK = 3.0
"""Seconds between two questions to SQL while there is nothing to do: what work may wait whose signal
was lost. It is one cheap query of one worker in the fleet."""
STUCK = 120.0
"""Seconds without a step of a turn, after which another worker may try: more than a database needs
for some slow statements, or to tell that a transaction was given up."""
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the database was away. Another worker, which may reach
them, has the lease by then."""

_LEAD = Script.load("dingrelay_workers.maintenance", "lead")

log = get_logger("dingrelay.leader")


class Work(ABC):
    """The work of a leader.

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
        """End what goes on between turns; the worker stops."""

    def _step(self) -> None:
        """It comes on: the lease is kept."""
        self.stepped = time.monotonic()


@dataclass(frozen=True, slots=True)
class Role:
    """What there is one leader for.

    Attributes:
        name: for the log.
        lease: key of the lease.
        signal: key of the value that changes when there is something to do.
        signal_ttl: how long that value is kept, in ms.
    """

    name: str
    lease: str
    signal: str
    signal_ttl: int


class _Stopped(Exception):
    """A turn was given up: it does not come on, or the lease is another's."""


async def signal(redis: Redis, role: Role) -> None:
    """Tell the fleet that there is something to do."""
    await redis.set(role.signal, uuid.uuid4().hex, px=role.signal_ttl)


class Leader:
    """Leads in one of the workers that may, one at a time.

    Args:
        redis: where the lease is.
        role: what it leads.
        open_work: makes what it does, once it has the lease and is to look at SQL.
    """

    def __init__(
        self, redis: Redis, role: Role, open_work: Callable[["Leader"], Awaitable[Work]]
    ) -> None:
        self._redis = redis
        self._role = role
        self._open_work = open_work
        self._holder = ""
        self._work: Work | None = None
        self._seen = ""
        self._ask_at = 0.0
        self._clock = (0.0, 0.0)
        self._carried_on = time.monotonic()

    def now(self) -> datetime:
        """Redis's time, as of its last answer and what has passed since."""
        moment, at = self._clock
        return datetime.fromtimestamp(moment, UTC) + timedelta(seconds=time.monotonic() - at)

    async def run(self) -> None:
        """Lead for ever."""
        self._carried_on = time.monotonic()
        LEAD_IDLE_SECONDS.labels(self._role.name).set_function(
            lambda: time.monotonic() - self._carried_on
        )
        while True:
            try:
                pause = await self.turn()
            except (RedisError, OSError) as error:
                log.warning("lead_failed", role=self._role.name, reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await asyncio.sleep(pause)

    async def turn(self) -> float:
        """Look, and work if it is this worker's; seconds until the next time."""
        name, signal = await self._take(uuid.uuid4().hex, LEASE)
        if name != self._holder:
            self._holder = name
            # Without a word nothing was made for an hour, or Redis has lost it.
            self._seen, self._ask_at = "", time.monotonic() + ASK
            if not name and self._work is not None:
                self._work.begin("")
        if not name or (signal == self._seen and time.monotonic() < self._ask_at):
            return LOOK
        if self._work is None:
            self._work = await self._open_work(self)
        work = self._work
        if work.holder != name:
            log.info("lead_taken", role=self._role.name)
            work.begin(name)
        try:
            pause = await self._watched(work)
        except (_Stopped, work.database_away) as error:
            reason = str(error) if isinstance(error, _Stopped) else type(error).__name__
            log.warning("turn_failed", role=self._role.name, reason=reason)
            await self.stop()
            return FAILURE_PAUSE
        self._carried_on = time.monotonic()
        if pause is None:
            self._seen, self._ask_at = signal, time.monotonic() + ASK
            return LOOK
        self._ask_at = 0.0
        return pause

    async def close(self) -> None:
        """End the work, and let another worker lead at once."""
        if self._work is not None:
            await self._work.close()
        await self.stop()

    async def stop(self) -> None:
        """Let another worker lead at once."""
        if self._holder:
            if self._work is not None:
                self._work.begin("")
            await self._take("", 0)
            self._holder = ""

    async def _take(self, fresh: str, lease: float) -> tuple[str, str]:
        """Keep the lease, or take it under a fresh name; the name and the signal."""
        call = _LEAD.call(
            [self._role.lease, self._role.signal],
            [self._holder, fresh, int(lease * 1000), self._role.signal_ttl],
        )
        name, signal, now = await run_async(self._redis, call)
        self._clock = (now / 1000, time.monotonic())
        return name.decode(), signal.decode()

    async def _watched(self, work: Work) -> float | None:
        """A tick of the work, with the lease renewed for as long as it comes on.

        Raises:
            _Stopped: it does not come on, or the lease is another worker's.
        """
        work.stepped = time.monotonic()
        tick = asyncio.ensure_future(work.tick())
        try:
            while not (await asyncio.wait({tick}, timeout=LEASE / 4))[0]:
                if time.monotonic() - work.stepped > STUCK:
                    raise _Stopped("a turn does not come on")
                with suppress(RedisError, OSError):  # the tick itself fails if Redis is away
                    if not (await self._take("", LEASE))[0]:
                        raise _Stopped("another worker has the lease")
            return tick.result()
        finally:
            tick.cancel()
            await asyncio.gather(tick, return_exceptions=True)
