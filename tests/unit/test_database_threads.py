"""The threads of SQLite's connections."""

import asyncio
import gc
import threading
from pathlib import Path

from sqlalchemy import text

from dingrelay_workers.database.database import Database

LONG = text(
    "with recursive c(n) as (select 1 union all select n + 1 from c where n < 2000000)"
    " select max(n) from c"
)
"""Half a second, and a busy machine takes it longer."""


async def test_the_thread_of_a_question_that_was_cancelled_ends_before_the_loop(
    tmp_path: Path,
) -> None:
    before = set(threading.enumerate())
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")
    started = asyncio.Event()

    async def ask() -> None:
        async with database.read() as connection:
            await connection.scalar(text("select 1"))
            started.set()
            await connection.scalar(LONG)

    asking = asyncio.create_task(ask())
    await started.wait()
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await database.dispose()
    assert not _others(before)


async def test_the_thread_of_a_connection_that_nobody_waited_for_ends_before_the_loop(
    tmp_path: Path,
) -> None:
    before = set(threading.enumerate())
    database = Database(f"sqlite:///{tmp_path / 'some.db'}")

    async def ask() -> None:
        async with database.read():
            """Cancelled before it is open."""

    asking = asyncio.create_task(ask())
    while not _others(before):  # noqa: ASYNC110 - no event says that a thread ends
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await database.dispose()
    assert not _others(before)
    # Since Python 3.13 a file that is still open would warn here.
    gc.collect()


def _others(before: set[threading.Thread]) -> list[threading.Thread]:
    """Threads of SQLite's connections that have come since."""
    since = set(threading.enumerate()) - before
    return [thread for thread in since if "_connection_worker_thread" in thread.name]
