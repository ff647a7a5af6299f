"""The services of SQL and limiter for the HTTP gateway, for as long as it runs."""

from typing import Any, TypeVar

from dingrelay_producers.enqueuing.connections import open_redis
from dingrelay_producers.settings import Settings
from dingrelay_workers.database.database import REQUEST_BUSY_TIMEOUT_MS, Database
from dingrelay_workers.database.errors import check_answers
from dingrelay_workers.database.migration import Migration
from dingrelay_workers.http.accepting import Acceptor
from dingrelay_workers.http.records import GatewayRecords
from dingrelay_workers.noun import made_of
from dingrelay_workers.nouns import NOUNS

_Service = TypeVar("_Service")


class Services:
    """The services of the nouns, on one database and one Redis."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database, busy_timeout_ms=REQUEST_BUSY_TIMEOUT_MS)
        self._redis = open_redis(settings)
        self._migration = Migration(settings)
        self._records = GatewayRecords(settings, self._redis)
        resources = {
            "settings": settings,
            "database": self._database,
            "redis": self._redis,
            "acceptor": Acceptor(settings, self._records),
        }
        self._closing: list[Any] = []
        self.by_class: dict[type, Any] = {Services: self}
        for noun in NOUNS:
            for service in noun.services:
                kind = noun.load(service.part)
                self.by_class[kind] = instance = made_of(kind, **resources)
                self._closing += [instance] if service.closes else []

    def of(self, kind: type[_Service]) -> _Service:
        """The service of a class."""
        service: _Service = self.by_class[kind]
        return service

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
        """End what services do beside requests, and close the connections."""
        await self._migration.close()
        for service in self._closing:
            await service.close()
        await self._records.aclose()
        await self._redis.aclose()
        await self._database.dispose()
