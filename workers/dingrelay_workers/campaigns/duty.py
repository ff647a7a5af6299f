"""Who carries campaigns on: one worker at a time, by a lease in Redis, and nobody while none runs.

A value in Redis tells whether a campaign runs, so that idle workers ask nothing else and load no
SQLAlchemy. Where it is lost, one worker looks into the database.
"""

import asyncio
import uuid
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers import keys
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.scripts import Script, run_async
from dingrelay_workers.records import Records

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.pump import Pump
    from dingrelay_workers.directory.database import Database

LEASE = 4.0
"""Seconds after which another worker carries on, if the one that did is gone."""
LOOK = 0.25
"""Seconds between looks at the signal: what a campaign that starts may wait."""
LOOK_AFTER_LOSS = 60.0
"""Seconds for which a lost signal may just be one that nobody has set yet."""
FAILURE_PAUSE = 1.0
"""Seconds before the next try where Redis or the database was away."""

NOTHING = "nothing"
"""The signal while no campaign runs."""

_PUMP = Script.load("dingrelay_workers", "pump")

log = get_logger("dingrelay.campaigns")


async def signal(redis: Redis) -> None:
    """Tell the fleet that a campaign runs, or has been paused or cancelled."""
    await redis.set(keys.CAMPAIGNS, uuid.uuid4().hex, px=keys.CAMPAIGNS_TTL_MS)


class Duty:
    """Pumps in every worker that serves campaigns, one at a time.

    Args:
        records: the job records.
        publisher: publishes wake-ups.
        database: opens the database with the campaigns.
    """

    def __init__(
        self, records: Records, publisher: Publisher, database: Callable[[], "Database"]
    ) -> None:
        self._records = records
        self._publisher = publisher
        self._database = database
        self._holder = ""
        self._mine = False
        self._pump: Pump | None = None
        self._nothing_at = ""
        self._lost_for = 0.0

    async def run(self) -> None:
        """Pump for ever."""
        while True:
            try:
                pause = await self.turn()
            except (RedisError, OSError) as error:
                log.warning("pump_failed", reason=type(error).__name__)
                pause = FAILURE_PAUSE
            await asyncio.sleep(pause)

    async def turn(self) -> float:
        """Look, and pump if it is this worker's; seconds until the next time."""
        mine, told = await self._take()
        if not mine:
            self._mine, self._lost_for = False, 0.0
            return LOOK
        self._mine = True
        if not told:
            self._lost_for += LOOK
            if self._lost_for < LOOK_AFTER_LOSS:
                return LOOK
        pump = await self._opened()
        if pump.holder != self._holder:
            log.info("pump_taken")
            pump.begin(self._holder)
        try:
            worked = await pump.tick()
        except pump.DATABASE_AWAY as error:
            log.warning("campaign_database_away", reason=type(error).__name__)
            self._lost_for = 0.0
            return FAILURE_PAUSE
        self._lost_for = 0.0
        if worked is None:
            await self._nothing(told)
            return LOOK
        if not told:
            await signal(self._records.redis)
        return worked

    async def stop(self) -> None:
        """Let another worker pump at once."""
        if self._mine and await self._records.redis.get(keys.PUMP) == self._holder.encode():
            await self._records.redis.delete(keys.PUMP)

    async def _take(self) -> tuple[bool, str]:
        if not self._mine:
            # A name of its own for each time, so that the fence tells it from an earlier one.
            self._holder = uuid.uuid4().hex
        call = _PUMP.call(
            [keys.PUMP, keys.CAMPAIGNS],
            [self._holder, int(LEASE * 1000), self._nothing_at, keys.CAMPAIGNS_TTL_MS, NOTHING],
        )
        self._nothing_at = ""
        mine, told = await run_async(self._records.redis, call)
        return bool(mine), told.decode()

    async def _nothing(self, told: str) -> None:
        """No campaign runs; unless one has been started since the look."""
        if told:
            self._nothing_at = told
        else:
            await self._records.redis.set(
                keys.CAMPAIGNS, NOTHING, px=keys.CAMPAIGNS_TTL_MS, nx=True
            )

    async def _opened(self) -> "Pump":
        if self._pump is None:
            # SQLAlchemy takes long to import: in a thread, so that jobs go on meanwhile.
            await asyncio.to_thread(import_module, "dingrelay_workers.campaigns.pump")
            from dingrelay_workers.campaigns.pump import Pump  # noqa: PLC0415

            self._pump = Pump(self._records, self._publisher, self._database())
        return self._pump
