"""A real database for each test: SQLite in a file, or a PostgreSQL that the tests start."""

from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from dingrelay_producers import Client
from dingrelay_producers.actor import ACTOR
from dingrelay_producers.settings import Settings
from dingrelay_sandbox.admin import SandboxAdmin
from dingrelay_workers.database.database import Database
from dingrelay_workers.directory.store import AppDirectory
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from dingrelay_workers.maintenance.scheduler import Schedule
from dingrelay_workers.store.records import Records
from support.command_line import Cli, in_folder
from support.consoles import Browser, browsing
from support.databases import postgres_database, postgres_server, postgres_url, prepare
from support.days import OpenStory, Story, a_story
from support.gateways import Ask, GatewayClient, gateway_thread, stored_keys
from support.outages import OpenFleet, opened_fleets
from support.workers import OneWorker, OpenWorker, one_worker

__all__ = ["postgres_database", "postgres_server", "postgres_url"]


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of an SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'directory.db'}"


@pytest.fixture
def settings(valkey_url: str, sqlite_url: str) -> Settings:
    """Settings of a test: Redis, and a SQLite database that does not exist yet."""
    return Settings.load(env="test", redis_url=valkey_url, database_url=sqlite_url)


@pytest.fixture
def each_settings(valkey_url: str, database_url: str) -> Settings:
    """The same on a database of each kind."""
    return Settings.load(env="test", redis_url=valkey_url, database_url=database_url)


@pytest.fixture
def program() -> Iterator[None]:
    """Changes are made by a program, which may do everything; a test may set another actor."""
    token = ACTOR.set(None)
    yield
    ACTOR.reset(token)


@pytest.fixture
def variables(settings: Settings) -> dict[str, str]:
    """The environment of `cli`; a module may have its own."""
    return {
        "DINGRELAY_ENV": "sandbox",
        "DINGRELAY_REDIS_URL": settings.redis,
        "DINGRELAY_DATABASE_URL": settings.database,
    }


@pytest.fixture
def cli(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """The command line in a folder of its own."""
    return in_folder(monkeypatch, tmp_path, variables)


@pytest.fixture
def grants() -> Sequence[Grant]:
    """Grants of `keys`; a module may have its own."""
    return [Grant(name="all", scopes=frozenset({"*"}))]


@pytest.fixture
def keys(settings: Settings, grants: Sequence[Grant]) -> dict[str, str]:
    """Name → text of the keys in the database."""
    return stored_keys(settings, grants)


@pytest.fixture
def gateway(settings: Settings, keys: dict[str, str]) -> Iterator[GatewayClient]:
    """A gateway on the database with `keys`."""
    with gateway_thread(settings, Services(settings)) as client:
        yield client


@pytest.fixture
def callers(gateway: GatewayClient, keys: dict[str, str]) -> dict[str, Ask]:
    """Name → requests to the gateway with the key of this name."""
    return {name: gateway.by(text) for name, text in keys.items()}


@pytest.fixture
def every(callers: dict[str, Ask]) -> Ask:
    """Requests with the key `all`."""
    return callers["all"]


@pytest.fixture
def crm(callers: dict[str, Ask]) -> Ask:
    """Requests with the key `crm`."""
    return callers["crm"]


@pytest.fixture
def prefix() -> str:
    """Prefix of the console's paths; a module may have its own."""
    return ""


@pytest.fixture
async def browser(settings: Settings, prefix: str) -> AsyncIterator[Browser]:
    """A browser before a console."""
    async with browsing(settings, prefix) as found:
        yield found


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A producer's client."""
    with Client(settings) as client:
        yield client


@pytest.fixture
def records(redis: Redis, settings: Settings) -> Records:
    """The records in Redis."""
    return Records(redis, settings)


@pytest.fixture
def schedule(redis: Redis, settings: Settings) -> Schedule:
    """The scheduler's scripts."""
    return Schedule(redis, settings)


@pytest.fixture
def store(valkey_url: str) -> Iterator[SyncRedis]:
    """The Redis of `valkey_url`, for a test without a loop."""
    with SyncRedis.from_url(valkey_url) as redis:
        yield redis


@pytest.fixture
def worker_settings() -> dict[str, Any]:
    """Settings of `worker`; a module may have its own."""
    return {}


@pytest.fixture
def open_worker(sandbox: SandboxAdmin, valkey_url: str, redis: Redis, tmp_path: Path) -> OpenWorker:
    """Start a worker in this process on the sandbox, with settings that a test chooses."""
    return partial(one_worker, sandbox, valkey_url, redis, tmp_path)


@pytest.fixture
async def worker(
    open_worker: OpenWorker, worker_settings: dict[str, Any]
) -> AsyncIterator[OneWorker]:
    """A worker in this process on the sandbox, which runs a job when a test says so."""
    async with open_worker(**worker_settings) as worker:
        yield worker


@pytest.fixture
def open_story(redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str) -> OpenStory:
    """Start two workers in this process on the sandbox, with limits that a test chooses."""
    prepare(sqlite_url)
    return partial(a_story, 1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url)


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
def directory(database: Database) -> AppDirectory:
    """The directory of the one app, on each database."""
    return AppDirectory(database, "default")


@pytest.fixture
async def story(
    redis: Redis, sandbox: SandboxAdmin, valkey_url: str, sqlite_url: str
) -> AsyncIterator[Story]:
    """Two workers, a scheduler and campaigns in this process."""
    prepare(sqlite_url)
    async with a_story(1, redis, sandbox, valkey_url=valkey_url, database_url=sqlite_url) as story:
        yield story


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
