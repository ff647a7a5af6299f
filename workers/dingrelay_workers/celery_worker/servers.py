"""The servers that a worker needs: the tables at its start, and the answer to a probe."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from celery.worker import state
from structlog.stdlib import get_logger

from dingrelay_producers import readiness
from dingrelay_producers.enqueuing import connections
from dingrelay_producers.errors import NotInstalled, ServiceUnavailable
from dingrelay_producers.readiness import Check
from dingrelay_producers.settings import Settings
from dingrelay_workers.celery_worker.event_loop import Runtime

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from dingrelay_workers.database.migration import Migration

REFUSED = 2
"""Exit code of a worker with which its tables do not work, as of one with a wrong setting."""

log = get_logger("dingrelay.worker")


class Servers:
    """Redis, the broker and, where jobs need it, the database; on the worker's loop.

    Args:
        settings: where they are.
        runtime: of the worker.
        consumer: returns Celery's consumer; None before it has reached the broker.
        needs_tables: whether jobs of this worker work with the database.
    """

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        consumer: Callable[[], Any],
        *,
        needs_tables: bool,
    ) -> None:
        self._settings = settings
        self._runtime = runtime
        self._consumer = consumer
        self._needs_tables = needs_tables
        self._redis: Redis | None = None
        self._migration: Migration | None = None

    async def begin(self) -> None:
        """Start to bring the tables up to date: a worker whose database is away goes on, and tries again.

        Raises:
            NotInstalled: the database's driver is missing.
        """
        if self._needs_tables:
            # SQLAlchemy is large.
            from dingrelay_workers.database.database import arguments  # noqa: PLC0415
            from dingrelay_workers.database.migration import Migration  # noqa: PLC0415

            try:
                arguments(self._settings.database)
            except ModuleNotFoundError:
                raise NotInstalled("postgres") from None
            self._migration = Migration(self._settings, _end_worker)
            self._migration.begin()

    async def settle(self) -> None:
        """Wait for the tables, for a while."""
        if self._migration is not None:
            await self._migration.settle()

    async def away(self) -> dict[str, str]:
        """The servers that can't be used, and why."""
        checks: dict[str, Check] = {"broker": self._check_broker, "redis": self._check_redis}
        if self._needs_tables:
            checks["database"] = self._check_database
        return await readiness.away(checks)

    async def _check_broker(self) -> None:
        consumer = self._consumer()
        if consumer is None or not consumer.connected:
            raise ServiceUnavailable("the worker does not take messages")

    async def _check_redis(self) -> None:
        if self._redis is None:
            self._redis = connections.open_redis(self._settings)
        await connections.check_writes(self._redis)

    async def _check_database(self) -> None:
        if self._migration is not None:
            self._migration.check()
        if (resources := self._runtime.resources) is not None:
            from dingrelay_workers.database.errors import check_answers  # noqa: PLC0415 - as above

            await check_answers(resources.database)


def _end_worker() -> None:
    """End it as Celery ends itself: half of its jobs would fail, one by one."""
    log.error("worker_refused")
    state.should_stop = REFUSED
