"""The services of SQL and limiter for the HTTP gateway, for as long as it runs."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from sqlalchemy import text
from structlog.stdlib import get_logger

from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import REQUEST_BUSY_TIMEOUT_MS, Database
from dingrelay_workers.database.errors import answering
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import TIMEOUT, KeyService
from dingrelay_workers.roles.service import RoleService
from dingrelay_workers.webhooks.service import WebhookService

START_TIMEOUT = 10.0
"""Seconds that a gateway's start waits for its tables; it starts all the same."""

TRY_AGAIN = 3.0
"""Seconds between two tries to reach a database that was away at the start."""

log = get_logger("dingrelay.gateway")


class Services:
    """The services of the nouns, on one database and one Redis."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.database, busy_timeout_ms=REQUEST_BUSY_TIMEOUT_MS)
        self._redis = open_redis(settings)
        self._migration: asyncio.Task[None] | None = None
        # A separate one: a silent database must not block the threads of others.
        self._migrating = ThreadPoolExecutor(1, thread_name_prefix="migration")
        self._refusal: str = en("DINGRELAY_DATABASE_URL: the database has no tables yet")
        self.keys = KeyService(self._database)
        self.rates = KeyRates(self._redis)
        self.campaigns = CampaignService(settings, self._database)
        self.drafts = Drafts(settings, self._database)
        self.approvals = ApprovalService(settings, self._database)
        self.directory = DirectoryService(self._database)
        self.history = HistoryService(settings, self._database)
        self.audit = AuditService(settings, self._database)
        self.roles = RoleService(self._database)
        self.webhooks = WebhookService(self._database, self._redis, settings)

    def by_class(self) -> dict[type, Any]:
        """Class → service, as `GatewayContext.service` finds them."""
        return {
            Services: self,
            ApprovalService: self.approvals,
            AuditService: self.audit,
            DirectoryService: self.directory,
            CampaignService: self.campaigns,
            Drafts: self.drafts,
            HistoryService: self.history,
            KeyService: self.keys,
            WebhookService: self.webhooks,
        }

    async def start(self) -> None:
        """Bring the tables up to date, or go on trying to beside the requests."""
        self._migration = asyncio.create_task(self._migrate())
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._migration), START_TIMEOUT)

    async def check(self) -> None:
        """Ask the database whether it answers, and has its tables.

        Raises:
            ServiceUnavailable: it does not, or not yet.
        """
        if self._migration is not None and not self._migration.done():
            raise ServiceUnavailable(self._refusal)
        async with answering(TIMEOUT), self._database.read() as connection:
            await connection.execute(text("select 1"))

    async def close(self) -> None:
        """Write the last uses of keys, and close the connections."""
        if self._migration is not None:
            self._migration.cancel()
            await asyncio.gather(self._migration, return_exceptions=True)
        self._migrating.shutdown(wait=False)
        await self.keys.close()
        await self._redis.aclose()
        await self._database.dispose()

    async def _migrate(self) -> None:
        while True:
            try:
                await asyncio.get_running_loop().run_in_executor(
                    self._migrating, migrate, self._settings
                )
            except ServiceUnavailable as error:
                log.warning("database_away", reason=str(error))
                await asyncio.sleep(TRY_AGAIN)
            except SettingsError as error:
                self._refusal = str(error)
                log.error("database_refused", reason=self._refusal)  # noqa: TRY400
                await asyncio.sleep(TRY_AGAIN)
            else:
                return
