"""The duties of leaders: work of which one worker of the fleet does all (`maintenance/leader.py`).

What they do needs SQLAlchemy, which takes as long to import as all the rest. Only the worker that leads loads it, in
a thread, so that it does not block jobs.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

from redis.asyncio import Redis

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.settings.sections import CampaignSettings
from dingrelay_workers.maintenance.leader import Duty
from dingrelay_workers.store.records import Records

if TYPE_CHECKING:
    from dingrelay_workers.database.database import Database

OpenDatabase = Callable[[], "Database"]
Now = Callable[[], datetime]


def campaigns(
    records: Records,
    publisher: Publisher,
    database: OpenDatabase,
    settings: CampaignSettings,
    *,
    users_per_call: Callable[[str], int],
) -> Duty:
    """Carry campaigns on. `users_per_call` is how many people a call of an app may have."""

    async def open_(now: Now) -> Any:
        make = await _loaded("campaigns.dispatcher", "Dispatcher")
        per_call = users_per_call
        return make(
            records, publisher, database(), settings=settings, users_per_call=per_call, now=now
        )

    return Duty("campaigns", open_)


def history(redis: Redis, database: OpenDatabase, settings: Settings) -> Duty:
    """Write the ends of jobs into SQL."""

    async def open_(now: Now) -> Any:
        return (await _loaded("history.writer", "Writer"))(redis, database(), settings, now=now)

    return Duty("history", open_)


def syncs(
    records: Records, publisher: Publisher, database: OpenDatabase, settings: Settings
) -> Duty:
    """Enqueue syncs on a schedule, and delete people who left long ago."""

    async def open_(now: Now) -> Any:
        make = await _loaded("directory.sync_schedule", "SyncSchedule")
        every, keep, retention = settings.sync.every_ms, settings.sync.kept_left, None
        apps = (settings.sync.apps or sorted(settings.apps)) if every else ()
        if keep is not None:
            delete = await _loaded("directory.retention", "Retention")
            retention = delete(database(), keep, now=now)
        return make(records, publisher, apps, every, now=now, retention=retention)

    return Duty("syncs", open_)


def webhooks(
    redis: Redis, publisher: Publisher, database: OpenDatabase, settings: Settings
) -> Duty:
    """Carry notices to endpoints."""

    async def open_(now: Now) -> Any:
        make = await _loaded("webhooks.dispatcher", "WebhookDispatcher")
        return make(redis, publisher, database(), settings, now=now)

    return Duty("webhooks", open_)


async def _loaded(module: str, name: str) -> Callable[..., Any]:
    loaded = await asyncio.to_thread(import_module, f"dingrelay_workers.{module}")
    found: Callable[..., Any] = getattr(loaded, name)
    return found
