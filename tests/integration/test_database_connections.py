"""The connections of a process to PostgreSQL: how many it opens, and what pgbouncer shares among transactions."""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as SilenceError
from sqlalchemy.pool import Pool

from conftest import wait_until_async
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_workers import preflight
from dingrelay_workers.campaigns.opening import READERS
from dingrelay_workers.database import database as database_module
from dingrelay_workers.database.database import CONNECTIONS, OVERFLOW, Database
from dingrelay_workers.database.schema import migrate
from dingrelay_workers.doctor.run_checks import check_database
from dingrelay_workers.gateway.services import Services
from dingrelay_workers.http.api_keys import Grant
from support.databases import prepare
from support.gateways import gateway_thread, stored_keys
from support.servers import free_port, pgbouncer

REQUESTS = 60
"""At the same time: more than there are connections."""
MOST = CONNECTIONS + OVERFLOW
OF_GATEWAY = MOST + READERS
GUIDE = Path(__file__).parents[2] / "docs/guide"


@pytest.fixture
def observer(postgres_url: str) -> Iterator[psycopg.Connection]:
    prepare(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


class Opened:
    """The connections of all pools of this process that are open.

    PostgreSQL itself counts one that was closed until its process has ended, and a wait that is given
    up closes its connection.
    """

    def __init__(self) -> None:
        self._open: list[Any] = []
        self.most = 0

    def connect(self, connection: Any, _: object) -> None:
        driver = getattr(connection, "driver_connection", connection)
        self._open = [*(each for each in self._open if not each.closed), driver]
        self.most = max(self.most, len(self._open))


@pytest.fixture
def opened() -> Iterator[Opened]:
    found = Opened()
    event.listen(Pool, "connect", found.connect)
    yield found
    event.remove(Pool, "connect", found.connect)


async def test_a_database_has_so_many(observer: psycopg.Connection, postgres_url: str) -> None:
    database = Database(postgres_url)
    most = 0

    async def ask() -> None:
        nonlocal most
        async with database.read() as connection:
            found = await connection.scalar(
                text("select count(*) from pg_stat_activity where datname = current_database()")
            )
            # Without that of the observer.
            most = max(most, int(found or 0) - 1)

    await asyncio.gather(*(ask() for _ in range(REQUESTS)))
    await database.dispose()
    assert CONNECTIONS < most <= MOST


def test_a_gateway_has_so_many(
    observer: psycopg.Connection, opened: Opened, postgres_url: str, valkey_url: str
) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url, database_url=postgres_url)
    kept: Any = Services(settings)
    key = stored_keys(settings, (Grant(name="all", scopes=frozenset({"*"})),))["all"]
    with (
        gateway_thread(settings, kept) as gateway,
        ThreadPoolExecutor(2 * REQUESTS) as threads,
    ):
        assert gateway.ask("GET", "/v1/campaigns", key=key).status == 200

        def ask(path: str) -> int:
            return gateway.ask("GET", path, key=key).status

        with observer.transaction():
            observer.execute("lock table campaigns, users in access exclusive mode")
            requests = [
                threads.submit(ask, path)
                for path in ("/v1/campaigns", "/v1/directory/users")
                for _ in range(REQUESTS)
            ]
            # A long wait ends with: the database is away.
            assert not wait(requests, timeout=60).not_done
        assert {each.result() for each in requests} <= {200, 503}
        assert CONNECTIONS < opened.most <= OF_GATEWAY


@pytest.mark.parametrize("page", ["settings.md", "zh-CN/settings.md"])
def test_the_guide_says_how_many(page: str) -> None:
    text = (GUIDE / page).read_text("utf-8")
    assert re.search(rf"\b{MOST} (connections to PostgreSQL|个 PostgreSQL 连接)", text)
    assert re.search(rf"(at most {OF_GATEWAY}:|最多 {OF_GATEWAY} 个)", text)


async def test_jobs_share_connections(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large department was read before it is written: to give up costs all its calls."""
    for name, seconds in (("JOB_WAIT", 0.05), ("JOB_QUEUE", 1.5), ("JOB_USE", 1.5)):
        monkeypatch.setattr(database_module, name, seconds)
    database = Database(database_url)
    jobs = database.limited(4)
    written: list[int] = []

    async def write(number: int, seconds: float) -> None:
        async with jobs.write("default"):
            await asyncio.sleep(seconds)
            written.append(number)

    await asyncio.gather(*(write(number, 0.2) for number in range(12)))
    assert sorted(written) == list(range(12)), "in more time than one of them has"

    # A use that does not end is silence for those behind it.
    ended = await asyncio.gather(
        *(write(number, 60) for number in range(6)), return_exceptions=True
    )
    assert {type(each) for each in ended} == {SilenceError}
    await database.dispose()


async def test_a_process_of_many_writers_of_sqlite_lets_those_of_another_one_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "OWN_TURN", 0.1)
    here, there = (Database(f"sqlite:///{tmp_path}/directory.db") for _ in range(2))
    wrote: list[Database] = []

    async def write(database: Database) -> None:
        async with database.write("default"):
            await asyncio.sleep(0.1)
            wrote.append(database)

    async with asyncio.TaskGroup() as writers:
        for _ in range(12):
            writers.create_task(write(here))
        await wait_until_async(lambda: wrote)
        writers.create_task(write(there))
    assert wrote.index(there) < 6, "it was let in between them"
    for database in (here, there):
        await database.dispose()


@pytest.fixture
def pooled_url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    with pgbouncer(postgres_url, tmp_path) as url:
        yield url


@pytest.mark.parametrize("parameter", ["", "?prepared_statements=off"])
async def test_nothing_is_prepared_behind_a_pooler(pooled_url: str, parameter: str) -> None:
    database = Database(pooled_url + parameter)

    async def ask(number: int) -> None:
        # The same statement is prepared from its sixth time on; each transaction has any server.
        for turn in range(20):
            async with database.write(f"app{number}") as connection:
                answer = await connection.scalar(text("select :a + :b"), {"a": number, "b": turn})
                assert answer == number + turn

    await asyncio.gather(*(ask(number) for number in range(6)))
    await database.dispose()


async def test_a_server_of_our_own_prepares(postgres_url: str) -> None:
    database = Database(postgres_url)
    async with database.read() as connection:
        raw = await connection.get_raw_connection()
        assert raw.driver_connection.prepare_threshold == 5
    await database.dispose()


def test_a_url_that_libpq_can_t_read_is_refused_without_its_password() -> None:
    for url, problem in (
        ("postgresql://h/d?prepared_statements=maybe", "prepared_statements must be auto or off"),
        ("postgresql://u:geheim@h:5432x/d", "is no URL of PostgreSQL's"),
        ("postgresql://u:geheim@h1:1,h2:2,h3/d?port=1,2", "is no URL of PostgreSQL's"),
        ("postgresql://u:geheim@[h/d", "is no URL of PostgreSQL's"),
        ("postgresql://u:geheim@h/d?colour=blue", "is no URL of PostgreSQL's"),
    ):
        settings = Settings.load(env="test", database_url=url)
        with pytest.raises(SettingsError, match=problem) as refused:
            preflight.check(settings)
        assert str(refused.value).startswith("DINGRELAY_DATABASE_URL: ")
        assert "geheim" not in str(refused.value)


def several_hosts(postgres_url: str, query: str) -> str:
    """The URL of a server of which the first host is dead."""
    parts = urlsplit(postgres_url)
    socket = quote(parse_qs(parts.query)["host"][0], safe="")
    dead = f"127.0.0.1:{free_port()}"
    return f"postgresql://{parts.username}@{dead},{socket}:5432{parts.path}?{query}"


async def test_of_several_hosts_the_next_one_takes_over(postgres_url: str) -> None:
    url = several_hosts(postgres_url, "target_session_attrs=read-write&prepared_statements=off")
    settings = Settings.load(env="test", database_url=url)
    preflight.check(settings)
    migrate(settings)
    database = Database(url)
    async with database.write("default") as connection:
        assert await connection.scalar(text("select current_database()")) == "tests"
        raw = await connection.get_raw_connection()
        assert raw.driver_connection.prepare_threshold is None
    await database.dispose()
    assert check_database(settings).verdict == "ok"


async def test_a_server_that_is_not_wanted_is_not_used(postgres_url: str) -> None:
    url = several_hosts(postgres_url, "target_session_attrs=read-only")
    database = Database(url)
    with pytest.raises(OperationalError, match="session is not read-only"):
        async with database.read():
            raise AssertionError
    await database.dispose()
