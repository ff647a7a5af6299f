"""Decides which apps the workers of a cell serve: those of its settings that no other cell serves.

DingTalk counts by app, and limits, daily limits, idempotency keys and tokens are in one Redis. Two cells
that served one app, as when their settings differ while it moves, would break all of them.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.settings import AppSettings, Settings
from dingrelay_producers.store import keys
from dingrelay_producers.store.connections import open_async
from dingrelay_producers.store.scripts import Script, run_async
from dingrelay_producers.timeouts import SOCKET_TIMEOUT
from dingrelay_tasks.kinds import KINDS

_CLAIM = Script.load("dingrelay_workers.cells", "claim_apps")

EVERY = 15.0
"""Seconds between two times that a worker says so: four of them within the time that it holds."""
WITHIN = 3.0
"""Seconds that a start waits for what all cells share. It goes on without: a cell stands on no other."""
AT_ONCE = 500
"""Apps that one script looks at, so that it does not hold up the server."""
MOVING = 2 * EVERY
"""Seconds before a job is looked at again whose app moves here: that takes a minute."""
ELSEWHERE = 600.0
"""The same where settings say that its app is elsewhere: they are read when a worker starts, and all the
jobs of an app that has moved away must not keep the cell busy."""

log = get_logger("dingrelay.cells")


class NotServed(Exception):
    """A job is of an app that this worker does not serve.

    Attributes:
        pause: seconds until it may look otherwise.
    """

    def __init__(self, problem: str, pause: float) -> None:
        super().__init__(problem)
        self.pause = pause


class CellClaims:
    """The apps that this worker's cell serves.

    Args:
        redis: of the cell.
        settings: of the cell.
    """

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._settings = settings
        self._redis = redis
        self._home = open_async(
            settings.home.redis_address,
            socket_timeout=SOCKET_TIMEOUT,
            socket_connect_timeout=SOCKET_TIMEOUT,
        )
        self._apps = {_digest(name, app): name for name, app in settings.apps.items()}
        self._taken: Mapping[str, str] = {}
        self._owner = settings.cell

    def check(self, app: str, kind: str) -> None:
        """Return if the worker may run a job.

        Raises:
            NotServed: it may not; the message says which cell may.
        """
        if kind in KINDS and KINDS[kind].of_no_app:
            return
        cell = self._settings.cell
        if self._owner != cell:
            problem = f"this Redis is the one of the cell {self._owner}, not of {cell}"
            raise NotServed(problem, ELSEWHERE)
        owner = self._settings.owner_of(app)
        if owner != cell:
            problem = f"{app} is in {owner or 'no cell'}, and this worker serves {cell}"
            raise NotServed(problem, ELSEWHERE)
        if app in self._taken:
            problem = f"{app} moves to {cell}: workers of {self._taken[app]} serve it still"
            raise NotServed(problem, MOVING)

    async def begin(self) -> None:
        """Claim before the first job, as far as the cells answer in time."""
        # The apps first: they are the cell's also while its own Redis is away, and its workers wait for that.
        for what, claim in (("apps", self.claim_apps), ("redis", self.claim_redis)):
            try:
                async with asyncio.timeout(WITHIN):
                    await claim()
            except (RedisError, OSError) as error:  # TimeoutError is one of the latter
                reason = type(error).__name__
                log.warning("cell_not_claimed", cell=self._settings.cell, what=what, reason=reason)

    async def run(self) -> None:
        """Claim again and again, for ever. The last known state holds while no answer comes."""
        while True:
            await asyncio.sleep(EVERY)
            await self.begin()

    async def claim_redis(self) -> None:
        """Say that this Redis is the cell's."""
        cell = self._settings.cell
        await self._redis.set(keys.CELL, cell, nx=True, px=keys.CELL_TTL_MS)
        found: Any = await self._redis.get(keys.CELL)
        owner = cell if found is None else found.decode(errors="replace")
        if owner == cell:
            await self._redis.pexpire(keys.CELL, keys.CELL_TTL_MS)
        elif owner != self._owner:
            log.error("redis_of_another_cell", cell=cell, owner=owner)
        self._owner = owner

    async def claim_apps(self) -> None:
        """Say in what all cells share which apps are the cell's, and hear which are another one's still."""
        cell = self._settings.cell
        taken: dict[str, str] = {}
        apps = list(self._apps)
        for start in range(0, len(apps), AT_ONCE):
            some = apps[start : start + AT_ONCE]
            call = _CLAIM.call([keys.CELLS_APPS], [cell, keys.CELL_TTL_MS, *some])
            answer = [each.decode() for each in await run_async(self._home, call)]
            pairs = zip(answer[::2], answer[1::2], strict=True)
            taken |= {self._apps[app]: by for app, by in pairs}
        for app in taken.keys() - self._taken.keys():
            log.warning("app_of_another_cell", app=app, cell=taken[app])
        for app in self._taken.keys() - taken.keys():
            log.info("app_has_moved_here", app=app, cell=cell)
        self._taken = taken

    async def close(self) -> None:
        """Let others go on: the claims run out."""
        await self._home.aclose()


def _digest(name: str, app: AppSettings) -> str:
    """DingTalk counts by the key; one that is not configured is known by its name only."""
    key = app.app_key.get_secret_value() or f"name:{name}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]
