"""The services of SQL and limiter for the HTTP gateway, for as long as it runs."""

from typing import Any

from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings
from dingrelay_workers.approvals.service import ApprovalService
from dingrelay_workers.audit.service import AuditService
from dingrelay_workers.campaigns.drafts import Drafts
from dingrelay_workers.campaigns.service import CampaignService
from dingrelay_workers.database.database import REQUEST_BUSY_TIMEOUT_MS, Database
from dingrelay_workers.database.errors import check_answers
from dingrelay_workers.database.migration import Migration
from dingrelay_workers.directory.service import DirectoryService
from dingrelay_workers.history.service import HistoryService
from dingrelay_workers.keys.rates import KeyRates
from dingrelay_workers.keys.service import KeyService
from dingrelay_workers.roles.service import RoleService
from dingrelay_workers.webhooks.service import WebhookService


class Services:
    """The services of the nouns, on one database and one Redis."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database, busy_timeout_ms=REQUEST_BUSY_TIMEOUT_MS)
        self._redis = open_redis(settings)
        self._migration = Migration(settings)
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

    def begin(self) -> None:
        """Start bringing the tables up to date, beside the requests."""
        self._migration.begin()

    async def settle(self) -> None:
        """Wait for the tables, for a while."""
        await self._migration.settle()

    async def check(self) -> None:
        """Ask the database whether it answers, and has its tables.

        Raises:
            ServiceUnavailable: it does not, or not yet.
        """
        self._migration.check()
        await check_answers(self._database)

    async def close(self) -> None:
        """Write the last uses of keys, and close the connections."""
        await self._migration.close()
        await self.keys.close()
        await self._redis.aclose()
        await self._database.dispose()
