"""Has the events read that could not be taken, while DingTalk still keeps them (API §7.1)."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

from redis.asyncio import Redis

from dingrelay_producers.enqueuing.connections import asking
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.store import record
from dingrelay_tasks.missed_events import MissedEvents
from dingrelay_workers.http.records import GatewayRecords

SLOT_SECONDS = 30
"""Gateways that come back at about the same time have the list read once."""
AGAIN_SECONDS = 60
"""After a slot, the list is read again. An event is on it 40 s after its first push, and DingTalk keeps
it there for 3 minutes at least: what failed last is on it by then, what failed first is still."""
PAUSE_SECONDS = 1.0
"""Between two tries while Redis is away."""


class MissedReader:
    """Enqueues a `MissedEvents` for each app that may have missed events, once Redis is there.

    Args:
        records: where jobs go.
        redis: the clock.
        apps: may have missed some before this process came up.
    """

    def __init__(self, records: GatewayRecords, redis: Redis, apps: Iterable[str]) -> None:
        self._records = records
        self._redis = redis
        self._missing = set(apps)
        self._any = asyncio.Event()
        if self._missing:
            self._any.set()

    def note(self, app: str) -> None:
        """An event of the app could not be taken."""
        self._missing.add(app)
        self._any.set()

    async def run(self) -> None:
        """Have them read, for ever."""
        while True:
            await self._any.wait()
            self._any.clear()
            missing, self._missing = self._missing, set()
            try:
                await self._enqueue(sorted(missing))
            except ServiceUnavailable:
                self._missing |= missing
                self._any.set()
                await asyncio.sleep(PAUSE_SECONDS)

    async def _enqueue(self, apps: Iterable[str]) -> None:
        async with asking():
            now, _ = await self._redis.time()
        slot = now // SLOT_SECONDS
        again = datetime.fromtimestamp((slot + 1) * SLOT_SECONDS + AGAIN_SECONDS, UTC)
        jobs = [
            MissedEvents(app=app, send_at=at, idempotency_key=f"{slot} {number}")
            for app in apps
            for number, at in enumerate((None, again))
        ]
        await self._records.enqueue([record.draft(job) for job in jobs])
