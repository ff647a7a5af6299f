"""Runs the history: the leader of those workers that serve `dingrelay.bulk`."""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.maintenance.leader import Leader, Role

if TYPE_CHECKING:
    from dingrelay_workers.database.database import Database
    from dingrelay_workers.history.writer import Writer

ROLE = Role("history", keys.HISTORY_LEADER, keys.HISTORY, keys.HISTORY_TTL_MS)


def history_leader(redis: Redis, database: Callable[[], "Database"], settings: Settings) -> Leader:
    """The leader of the history in a worker."""

    async def open_writer(leads: Leader) -> "Writer":
        # SQLAlchemy takes long to import: in a thread, so that it does not block jobs.
        await asyncio.to_thread(import_module, "dingrelay_workers.history.writer")
        from dingrelay_workers.history.writer import Writer  # noqa: PLC0415

        return Writer(redis, database(), settings, now=leads.now)

    return Leader(redis, ROLE, open_writer)
