"""Keeps the history: reads the ends of jobs, writes them to SQL, and deletes what is too old.

An end is read again until its page is passed, and that is after the commit. So after any crash each
end is written at least once, and a second time changes nothing.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from structlog.stdlib import get_logger

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_tasks.kinds import KINDS
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import upgrade
from dingrelay_workers.history import store
from dingrelay_workers.history.ended_job import ended_job
from dingrelay_workers.maintenance.leader import Work
from dingrelay_workers.metrics import HISTORY_MISSED, HISTORY_WRITTEN
from dingrelay_workers.outbox import outbox
from dingrelay_workers.outbox.ended_records import read_records
from dingrelay_workers.outbox.endings import WEBHOOKS, Ending, Endings
from dingrelay_workers.outbox.models import EndpointRow

READER = "history"
AT_ONCE = 500
"""Ends that one transaction writes."""
BUSY = 0.0
"""Seconds until the next page while there are more."""
PURGE_EVERY = 3_600.0
"""Seconds between two looks for what is too old."""

log = get_logger("dingrelay.history")


class Writer(Work):
    """Writes the ends of jobs, as long as its worker leads.

    Args:
        redis: where the ends are read.
        database: where they are written.
        settings: for how long, and how much.
        now: Redis's time.
    """

    database_away = SQLAlchemyError

    def __init__(
        self, redis: Redis, database: Database, settings: Settings, *, now: Callable[[], datetime]
    ) -> None:
        super().__init__()
        self._redis = redis
        self._database = database
        self._settings = settings
        self._now = now
        self._endings = Endings(redis, READER)
        self._ready = False
        self._purge_at = 0.0

    async def tick(self) -> float | None:
        """Write a page; seconds until the next one, None if there is none."""
        page = await self._endings.read(AT_ONCE)
        kept = [ending for ending in page.endings if _is_kept(ending)]
        if kept:
            await self._write(kept)
            # By this `doctor` finds out that the database was restored from a backup.
            newest = max(ending.at for ending in kept)
            await self._redis.set(keys.HISTORY_WRITTEN, newest, px=keys.ENDINGS_TTL_MS)
        awaited = [WEBHOOKS] if page.last and await self._has_webhooks() else []
        if await self._endings.pass_(page, awaited=awaited) and page.missed:
            HISTORY_MISSED.inc(page.missed)
            log.error("history_missed", jobs=page.missed)
        self._step()
        if len(page.endings) == AT_ONCE:
            return BUSY
        await self._purge()
        return None

    async def _write(self, endings: Sequence[Ending]) -> None:
        if not self._ready:
            await asyncio.to_thread(upgrade, self._settings.database)
            self._ready = True
        content = self._settings.history.content
        records = await read_records(self._redis, endings, with_payload=lambda _: True)
        await store.write(
            self._database, [ended_job(record, content=content) for record in records]
        )
        HISTORY_WRITTEN.inc(len(records))

    async def _has_webhooks(self) -> bool:
        """Whether endpoints hear of ends: on a new Redis their worker may come later."""
        if not self._ready and not await self._database.has(EndpointRow):
            return False
        async with self._database.read() as connection:
            return await outbox.has_readers(connection)

    async def _purge(self) -> None:
        if not self._ready or time.monotonic() < self._purge_at:
            return
        before = self._now() - timedelta(days=self._settings.history.days)
        while await store.delete_before(self._database, before) == store.SLICE:
            self._step()
        self._purge_at = time.monotonic() + PURGE_EVERY


def _is_kept(ending: Ending) -> bool:
    """Whether jobs of this kind are reported, and so kept."""
    kind = KINDS.get(ending.kind)
    return kind is not None and kind.is_reported
