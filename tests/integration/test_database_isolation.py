"""Writers that wait for each other, that are cancelled, and that may not write."""

import asyncio
import sqlite3
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiosqlite
import pytest
from psycopg.pq import TransactionStatus
from redis.asyncio import Redis
from sqlalchemy import event, make_url, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from conftest import wait_until_async
from dingrelay_producers import Settings, State
from dingrelay_workers.campaigns.models import CampaignRow
from dingrelay_workers.database import database as database_module
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import sync_engine
from dingrelay_workers.jobs import outcome
from dingrelay_workers.store.records import Records
from support import campaigns
from support.databases import prepare
from support.jobs import running


def with_options(database_url: str, options: str) -> str:
    """The URL of a database whose connections have these options of PostgreSQL's."""
    url = make_url(database_url).update_query_dict({"options": f"-c {options}"})
    return url.render_as_string(hide_password=False)


@pytest.mark.parametrize("isolation", ["repeatable\\ read", "serializable"])
async def test_a_waiting_writer_reads_anew(
    postgres_url: str, settings: Settings, isolation: str
) -> None:
    prepare(postgres_url)
    database = Database(with_options(postgres_url, f"default_transaction_isolation={isolation}"))

    async def waits() -> bool:
        async with database.read() as connection:
            waiting = text("select count(*) from pg_locks where not granted")
            return bool(await connection.scalar(waiting))

    campaign = await campaigns.put(database)
    async with database.write(f"campaign {campaign}") as connection:
        pausing = asyncio.create_task(campaigns.move(settings, database, campaign, "pause"))
        await wait_until_async(waits, what="the other writer waits")
        await connection.execute(update(CampaignRow).values(weight=7))
    await pausing
    row = await campaigns.read(database, campaign)
    assert (row.state, row.weight) == ("paused", 7)
    await database.dispose()


def test_whoever_migrates_does_so_too(postgres_url: str) -> None:
    engine = sync_engine(with_options(postgres_url, "default_transaction_isolation=serializable"))
    with engine.connect() as connection:
        isolation = connection.scalar(text("show transaction_isolation"))
    engine.dispose()
    assert isolation == "read committed"


async def test_a_reader_begins_no_transaction(postgres_url: str) -> None:
    database = Database(postgres_url)

    async def status(connection: AsyncConnection) -> TransactionStatus:
        await connection.execute(text("select 1"))
        raw: Any = await connection.get_raw_connection()
        transaction: TransactionStatus = raw.driver_connection.info.transaction_status
        return transaction

    async with database.read() as reader:
        assert await status(reader) == TransactionStatus.IDLE
    async with database.snapshot() as snapshot:
        assert await status(snapshot) == TransactionStatus.INTRANS
    async with database.write("tests") as writer:
        assert await status(writer) == TransactionStatus.INTRANS
    await database.dispose()


async def test_a_statement_of_a_reader_is_one_trip_to_the_thread_of_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'database.db'}")
    async with database.read() as connection:
        await connection.execute(text("select 1"))
    trips, execute = list[object](), aiosqlite.Connection._execute

    async def note(connection: aiosqlite.Connection, function: object, *arguments: object) -> Any:
        trips.append(function)
        return await execute(connection, function, *arguments)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(aiosqlite.Connection, "_execute", note)
    async with database.read() as connection:
        await connection.execute(text("select 1"))
    assert len(trips) == 1
    await database.dispose()


INSERT = "insert into names values ('a'), ('b') returning name"


@pytest.mark.parametrize("statement", ["BEGIN IMMEDIATE", INSERT])
async def test_a_cancelled_writer_gives_its_lock_back(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "database.db"
    database = Database(f"sqlite:///{path}", busy_timeout_ms=2_000)
    async with database.write("default") as connection:
        await connection.exec_driver_sql("create table names (name text)")
    other = sqlite3.connect(path, isolation_level=None)

    async def write() -> None:
        async with database.write("default") as connection:
            await connection.exec_driver_sql(INSERT)

    @event.listens_for(database.engine.sync_engine, "before_cursor_execute")
    def cancel(_connection: object, _cursor: object, begun: str, *_: object) -> None:
        if begun == statement and not writer.cancelling():
            # It ends where it waits for the statement, which the connection's thread executes all the same.
            writer.cancel()
            asyncio.get_running_loop().call_soon(other.rollback)

    if statement == "BEGIN IMMEDIATE":
        other.execute(statement)
    writer = asyncio.create_task(write())
    # The error keeps all that the writer held, its cursor as well, for as long as it is referred to.
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await writer
    async with database.write("default") as connection:
        assert await connection.scalar(text("select count(*) from names")) == 0
    assert cancelled.value.__traceback__ is not None
    other.close()
    await database.dispose()


async def test_a_writer_whose_rollback_fails_gives_its_lock_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'database.db'}", busy_timeout_ms=0)
    failures = [sqlite3.OperationalError("disk I/O error")]
    roll_back = aiosqlite.Connection.rollback

    async def roll_back_later(connection: aiosqlite.Connection) -> None:
        if failures:
            raise failures.pop()
        await roll_back(connection)

    monkeypatch.setattr(aiosqlite.Connection, "rollback", roll_back_later)
    with pytest.raises(SQLAlchemyError):
        async with database.write("default"):
            raise RuntimeError
    other = Database(f"sqlite:///{tmp_path / 'database.db'}", busy_timeout_ms=0)
    async with other.write("default") as connection:
        await connection.exec_driver_sql("create table names (name text)")
    assert not failures
    await database.dispose()
    await other.dispose()


async def test_failed_writes_cost_nothing(postgres_url: str, valkey_url: str, redis: Redis) -> None:
    prepare(postgres_url)
    database = Database(with_options(postgres_url, "default_transaction_read_only=on"))
    with pytest.raises(SQLAlchemyError, match="read-only") as raised:
        async with database.write("tests") as connection:
            await connection.execute(update(CampaignRow).values(weight=2))
    await database.dispose()

    settings = Settings.load(env="test", redis_url=valkey_url)
    _, claim = await running(redis, Records(redis, settings))
    led_to = outcome.of(raised.value, claim, settings, open_call=False)
    assert (led_to.state, led_to.attempts) == (State.RETRYING, 0)


async def test_the_loop_does_not_stand_still_while_another_process_turns_a_file_to_wal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses that at once then, whatever the timeout, and it is tried again after a pause."""
    refusals = iter(range(3))

    class Refusing(sqlite3.Cursor):
        def execute(self, sql: str, *arguments: object) -> "Refusing":
            if "journal_mode" in sql and next(refusals, None) is not None:
                raise sqlite3.OperationalError("database is locked")
            super().execute(sql, *arguments)
            return self

    class Connection(sqlite3.Connection):
        def cursor(self, *_: object) -> Refusing:
            return super().cursor(Refusing)

    def blocks(seconds: float) -> None:
        raise AssertionError(f"the loop stands still for {seconds} s")

    calls = SimpleNamespace(monotonic=time.monotonic, sleep=blocks)
    monkeypatch.setattr(database_module, "time", calls)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Connection))
    database = Database(f"sqlite:///{tmp_path / 'new.db'}")
    async with database.read() as connection:
        assert await connection.scalar(text("pragma journal_mode")) == "wal"
    assert next(refusals, None) is None, "it was refused as often"
    await database.dispose()
