"""Accepts the jobs that follow from a verb of a noun in SQL, for the actor who carried it out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from dingrelay_producers.client.sending import Sending
from dingrelay_producers.client.verbs import Audit
from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings
from dingrelay_producers.store.status import JobStatus
from dingrelay_tasks.contract import Contract
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.http.steps import StepMaker


class Acceptor:
    """Accepts jobs.

    Args:
        settings: where Redis and the broker are.
        records: of a process that serves many callers. Without them connections are opened for each call.
    """

    def __init__(self, settings: Settings, records: GatewayRecords | None = None) -> None:
        self._settings = settings
        self._records = records

    async def accept(
        self, jobs: Sequence[Contract], change: Audit | None = None, audit: Any = None
    ) -> list[JobStatus]:
        """Accept jobs as `Sending.follow`; how each stands, in order.

        `audit`: the `AuditService` that a change needs.
        """
        async with self._opened() as records:
            steps = Sending(self._settings).follow(jobs, change)
            return await StepMaker(records, audit=audit).carry_out(steps)

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[GatewayRecords]:
        if self._records is not None:
            yield self._records
            return
        redis = open_redis(self._settings)
        records = GatewayRecords(self._settings, redis)
        try:
            yield records
        finally:
            await records.aclose()
            await redis.aclose()
