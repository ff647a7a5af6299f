"""Runs campaigns: the leader of those workers that serve them (`maintenance/leader.py`)."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from dingrelay_producers.publisher import Publisher
from dingrelay_producers.store import keys
from dingrelay_workers.maintenance import leader
from dingrelay_workers.maintenance.leader import Leader, Role
from dingrelay_workers.store.records import Records

if TYPE_CHECKING:
    from dingrelay_workers.campaigns.dispatcher import Dispatcher
    from dingrelay_workers.database.database import Database

ROLE = Role("campaigns", keys.DISPATCHER, keys.CAMPAIGNS, keys.CAMPAIGNS_TTL_MS)


async def signal(redis: Redis) -> None:
    """Tell the fleet that a campaign was started, paused, resumed, cancelled or deleted."""
    await leader.signal(redis, ROLE)


def campaign_leader(
    records: Records,
    publisher: Publisher,
    database: Callable[[], "Database"],
    *,
    users_per_call: Callable[[str], int],
) -> Leader:
    """The leader of campaigns in a worker.

    Args:
        records: the job records.
        publisher: publishes wake-ups.
        database: opens the database with the campaigns.
        users_per_call: app → how many people a call of it may have.
    """

    async def open_dispatcher(leads: Leader) -> "Dispatcher":
        # SQLAlchemy takes long to import: in a thread, so that it does not block jobs.
        await asyncio.to_thread(import_module, "dingrelay_workers.campaigns.dispatcher")
        from dingrelay_workers.campaigns.dispatcher import Dispatcher  # noqa: PLC0415

        return Dispatcher(
            records, publisher, database(), users_per_call=users_per_call, now=leads.now
        )

    return Leader(records.redis, ROLE, open_dispatcher)
