"""Who carries campaigns on: one worker at a time, by a lease in Redis.

Whether a campaign runs is told by SQL alone. The worker with the lease asks it every few seconds,
and at once where a value in Redis has changed: whoever starts a campaign changes it. So a start is
felt at once, and is not missed if that word is lost. The other workers ask Redis only, and load no
SQLAlchemy.

The lease is renewed while a turn lasts, as long as the turn comes on. Under another lease it has
another name, so what Redis is told under an earlier one is refused.
"""

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys
from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_workers.store.records import Records

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.dispatcher import Dispatcher
    from dingrelay_workers.database.database import Database

LEASE = 4.0
"""Seconds after which another worker carries on, if the one that did is gone."""
LOOK = 0.25
"""Seconds between looks at the signal: what a campaign that starts may wait."""
ASK = 3.0
"""Seconds between two questions to SQL while no campaign runs: what one may wait whose signal was
lost. It is one cheap query of one worker in the fleet."""
STUCK = 120.0
"""Seconds without a step of a turn, after which another worker may try: more than a database needs
for some slow statements, or to tell that a transaction was given up."""
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the database was away. Another worker, which may reach
them, has the lease by then."""

_LEAD = Script.load("dingrelay_workers.campaigns", "lead")

log = get_logger("dingrelay.campaigns")


class _Stopped(Exception):
    """A turn was given up: it does not come on, or the lease is another's."""


async def signal(redis: Redis) -> None:
    """Tell the fleet that a campaign was started, paused, resumed or cancelled."""
    await redis.set(keys.CAMPAIGNS, uuid.uuid4().hex, px=keys.CAMPAIGNS_TTL_MS)


class Leader:
    """Leads in one of the workers that serve campaigns, one at a time.

    Args:
        records: the job records.
        publisher: publishes wake-ups.
        database: opens the database with the campaigns.
        users_per_call: app → how many people a call of it may have.
    """

    def __init__(
        self,
        records: Records,
        publisher: Publisher,
        database: Callable[[], "Database"],
        *,
        users_per_call: Callable[[str], int],
    ) -> None:
        self._redis = records.redis
        self._records = records
        self._publisher = publisher
        self._database = database
        self._users_per_call = users_per_call
        self._holder = ""
        self._dispatcher: Dispatcher | None = None
        self._seen = ""
        self._ask_at = 0.0
        self._clock = (0.0, 0.0)

    def now(self) -> datetime:
        """Redis's time, as of its last answer and what has passed since."""
        told, at = self._clock
        return datetime.fromtimestamp(told, UTC) + timedelta(seconds=time.monotonic() - at)

    async def run(self) -> None:
        """Lead for ever."""
        while True:
            try:
                pause = await self.turn()
            except (RedisError, OSError) as error:
                log.warning("pump_failed", reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await asyncio.sleep(pause)

    async def turn(self) -> float:
        """Look, and dispatch if it is this worker's; seconds until the next time."""
        name, signal = await self._take(uuid.uuid4().hex, LEASE)
        if name != self._holder:
            self._holder = name
            # Without a word no campaign has begun for an hour, or Redis has lost it.
            self._seen, self._ask_at = "", time.monotonic() + ASK
        if not name or (signal == self._seen and time.monotonic() < self._ask_at):
            return LOOK
        dispatcher = await self._opened()
        if dispatcher.holder != name:
            log.info("pump_taken")
            dispatcher.begin(name)
        try:
            pause = await self._watched(dispatcher)
        except (_Stopped, dispatcher.DATABASE_AWAY) as error:
            reason = str(error) if isinstance(error, _Stopped) else type(error).__name__
            log.warning("campaign_turn_failed", reason=reason)
            await self.stop()
            return FAILURE_PAUSE
        if pause is None:
            self._seen, self._ask_at = signal, time.monotonic() + ASK
            return LOOK
        self._ask_at = 0.0
        return pause

    async def stop(self) -> None:
        """Let another worker lead at once."""
        if self._holder:
            await self._take("", 0)
            self._holder = ""

    async def _take(self, fresh: str, lease: float) -> tuple[str, str]:
        """Keep the lease, or take it under a fresh name; the name and the signal."""
        call = _LEAD.call(
            [keys.DISPATCHER, keys.CAMPAIGNS],
            [self._holder, fresh, int(lease * 1000), keys.CAMPAIGNS_TTL_MS],
        )
        name, signal, now = await run_async(self._redis, call)
        self._clock = (now / 1000, time.monotonic())
        return name.decode(), signal.decode()

    async def _watched(self, dispatcher: "Dispatcher") -> float | None:
        """A tick of the dispatcher, with the lease renewed for as long as it comes on.

        Raises:
            _Stopped: it does not come on, or the lease is another worker's.
        """
        dispatcher.stepped = time.monotonic()
        tick = asyncio.ensure_future(dispatcher.tick())
        try:
            while not (await asyncio.wait({tick}, timeout=LEASE / 4))[0]:
                if time.monotonic() - dispatcher.stepped > STUCK:
                    raise _Stopped("a turn does not come on")
                with suppress(RedisError, OSError):  # the tick itself tells if Redis is away
                    if not (await self._take("", LEASE))[0]:
                        raise _Stopped("another worker has the lease")
            return tick.result()
        finally:
            tick.cancel()
            await asyncio.gather(tick, return_exceptions=True)

    async def _opened(self) -> "Dispatcher":
        if self._dispatcher is None:
            # SQLAlchemy takes long to import: in a thread, so that jobs go on meanwhile.
            await asyncio.to_thread(import_module, "dingrelay_workers.campaigns.dispatcher")
            from dingrelay_workers.campaigns.dispatcher import Dispatcher  # noqa: PLC0415

            self._dispatcher = Dispatcher(
                self._records,
                self._publisher,
                self._database(),
                users_per_call=self._users_per_call,
                now=self.now,
            )
        return self._dispatcher
