"""Which worker carries notices to endpoints: the leader of those workers that serve webhooks (`maintenance/leader.py`)."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.maintenance.leader import Leader, Role

if TYPE_CHECKING:
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.webhooks.dispatcher import Dispatcher

ROLE = Role("webhooks", keys.WEBHOOK_LEADER, keys.WEBHOOKS, keys.WEBHOOKS_TTL_MS)


def webhook_leader(
    redis: Redis, publisher: Publisher, database: Callable[[], "Database"], settings: Settings
) -> Leader:
    """The leader of webhooks in a worker."""

    async def open_dispatcher(leads: Leader) -> "Dispatcher":
        # SQLAlchemy takes long to import: in a thread, so that it does not block jobs.
        await asyncio.to_thread(import_module, "dingrelay_workers.webhooks.dispatcher")
        from dingrelay_workers.webhooks.dispatcher import Dispatcher  # noqa: PLC0415

        return Dispatcher(redis, publisher, database(), settings, now=leads.now)

    return Leader(redis, ROLE, open_dispatcher)
