"""Threads of databases, and a PostgreSQL that says nothing."""

import asyncio
import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from conftest import wait_until
from dingrelay_workers.database import schema
from dingrelay_workers.database.database import Database

LONG = text(
    "with recursive c(n) as (select 1 union all select n + 1 from c where n < 2000000)"
    " select max(n) from c"
)
"""Half a second, and a busy machine takes it longer."""


async def test_a_cancelled_questions_thread_ends_before_the_loop(tmp_path: Path) -> None:
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


async def test_an_abandoned_connections_thread_ends(tmp_path: Path) -> None:
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


@pytest.fixture
def silent() -> Iterator[str]:
    """URL of a server that accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://stranger@127.0.0.1:{server.getsockname()[1]}/none"


@pytest.mark.parametrize("query", ["", "?connect_timeout=2"])
def test_its_wait_is_bounded(silent: str, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGCONNECT_TIMEOUT", raising=False)
    monkeypatch.setattr(schema, "CONNECT_SECONDS", 600 if query else 2)
    refused: list[OperationalError] = []

    def ask() -> None:
        try:
            schema.upgrade(silent + query)
        except OperationalError as error:
            refused.append(error)

    threading.Thread(target=ask, daemon=True).start()
    wait_until(lambda: refused, what="it is given up")
