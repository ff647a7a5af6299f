"""Syncs on a schedule: the leader of those workers that serve `dingrelay.directory` enqueues them.

Time is cut into periods by Redis's clock, for each app its own, so every leader finds the same ones.
An app is due once its latest sync was enqueued before the present period began. The job's id follows
from app and period. A leader can die

- before the job is enqueued: the next one enqueues it;
- before that is noted: the next one enqueues it again, which makes nothing, and notes it.

So a period has one sync at most, and one that no worker has seen has none. A sync that takes longer
than a period is waited for.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError
from structlog.stdlib import get_logger

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys, record
from dingrelay_producers.store.states import State
from dingrelay_tasks.user_sync import UserSync
from dingrelay_workers.maintenance.leader import LeaderParts, Now, Work
from dingrelay_workers.store.records import Records

SENDER = "schedule"
"""The sender of these jobs."""
LOOK_EVERY = 60.0
"""Seconds between two looks at what is due: what a sync may begin late by."""
ANCHOR_MS = 19 * 3_600_000
"""03:00 in Beijing, in UTC: a sync at night disturbs no users. China has no summer time."""
SPREAD_MS = 3_600_000
"""Within so long of it the apps begin, each at a time of its own: not all at once, and not on the hour,
when others do."""

log = get_logger("dingrelay.syncs")


def period_start(app: str, every: int, now: int) -> int:
    """When the present period of an app began; all times in ms, `now` and the answer since the epoch."""
    digest = hashlib.sha256(app.encode()).digest()
    offset = ANCHOR_MS + int.from_bytes(digest[:4]) % min(SPREAD_MS, every)
    return now - (now - offset) % every


class SyncSchedule(Work):
    """Enqueues the syncs that are due. It needs no SQL itself.

    Args:
        records: the job records.
        publisher: publishes wake-ups.
        apps: whose directories are synced.
        every: the length of a period in ms.
        now: Redis's time.
    """

    database_away = RedisError

    def __init__(
        self,
        records: Records,
        publisher: Publisher,
        apps: Sequence[str],
        every: int,
        *,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__()
        self._records = records
        self._publisher = publisher
        self._apps = apps
        self._every = every
        self._now = now
        self._look_at = 0.0
        self._waited_for: dict[str, str] = {}

    def begin(self, holder: str) -> None:
        """The lease is this worker's again, or no more with ""."""
        super().begin(holder)
        self._look_at = 0.0

    async def tick(self) -> None:
        """Enqueue what is due; asked every few seconds, it looks once a minute."""
        if time.monotonic() < self._look_at:
            return
        for app in self._apps:
            await self._look(app)
            self._step()
        self._look_at = time.monotonic() + LOOK_EVERY

    async def _look(self, app: str) -> None:
        now = int(self._now().timestamp() * 1000)
        start = period_start(app, self._every, now)
        noted: list[Any] = await self._records.redis.hmget(keys.scheduled_sync(app), "job", "at")
        latest, at = noted
        if latest is not None and (int(at) >= start or await self._goes_on(app, latest.decode())):
            return
        draft = record.draft(UserSync(app=app, sender=SENDER), key=f"schedule {start}")
        wakeups = await self._records.enqueue([draft], fence=(keys.DISPATCHER, self.holder))
        if wakeups:
            log.info("sync_scheduled", app=app, job=draft.id)
            await self._records.publish(self._publisher, wakeups)
        # Should the lease go to another worker just now, that one enqueues the same job, or notes it again.
        if await self._records.redis.get(keys.DISPATCHER) != self.holder.encode():
            return
        note = keys.scheduled_sync(app)
        async with self._records.redis.pipeline(transaction=True) as pipe:
            pipe.hset(note, mapping={"job": draft.id, "at": now})
            pipe.pexpire(note, self._every + keys.SYNC_MARGIN_MS)
            await pipe.execute()

    async def _goes_on(self, app: str, job_id: str) -> bool:
        """Whether the latest sync has not ended: two at once would read everything twice."""
        (state,) = await self._records.states([job_id])
        if state is None or State(state).ended:
            return False
        if self._waited_for.get(app) != job_id:
            self._waited_for[app] = job_id
            log.warning("sync_takes_longer", app=app, job=job_id, state=state)
        return True


def of_leader(parts: LeaderParts, now: Now) -> SyncSchedule:
    """The schedule of a worker that leads."""
    sync = parts.settings.sync
    apps = sync.apps or sorted(parts.settings.apps)
    return SyncSchedule(parts.records, parts.publisher, apps, sync.every_ms, now=now)
