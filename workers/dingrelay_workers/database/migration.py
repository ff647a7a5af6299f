"""Migrates the tables beside what a process does, and tries again while the database is away."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from structlog.stdlib import get_logger

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.schema import migrate

WAIT = 10.0
"""Seconds that a process's start waits for its tables; it goes on without them."""
TRY_AGAIN = 3.0
"""Seconds between two tries to reach a database that was away."""

log = get_logger("dingrelay.database")


class Migration:
    """The migration of one process; on its event loop.

    Args:
        settings: where the database is.
        on_refused: called each time the tables are of a newer release, with which this one does not work.
    """

    def __init__(self, settings: Settings, on_refused: Callable[[], object] = lambda: None) -> None:
        self._settings = settings
        self._on_refused = on_refused
        self._problem: str = en("DINGRELAY_DATABASE_URL: the database has no tables yet")
        self._task: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        # A thread of its own: a silent database must not block the threads of others.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="migration")

    def begin(self) -> None:
        """Start it; nothing waits for the database."""
        self._task = asyncio.create_task(self._migrate_and_settle())

    async def settle(self) -> None:
        """Wait until the tables are there or are refused, `WAIT` seconds at most.

        Raises:
            Exception: the migration failed otherwise than by a database that is away.
        """
        with suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), WAIT)
        if self._task is not None and self._task.done():
            self._task.result()

    def check(self) -> None:
        """See that the tables are there.

        Raises:
            ServiceUnavailable: they are not, or not yet.
            Exception: as `settle`.
        """
        if self._task is None or not self._task.done():
            raise ServiceUnavailable(self._problem)
        self._task.result()

    async def close(self) -> None:
        """Give it up if it still runs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    async def _migrate_and_settle(self) -> None:
        try:
            await self._migrate()
        finally:
            self._settled.set()

    async def _migrate(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await loop.run_in_executor(self._thread, migrate, self._settings)
            except ServiceUnavailable as error:
                log.warning("database_away", reason=str(error))
            except SettingsError as error:
                self._problem = str(error)
                log.error("database_refused", reason=self._problem)  # noqa: TRY400
                self._on_refused()
                self._settled.set()
            else:
                return
            await asyncio.sleep(TRY_AGAIN)
