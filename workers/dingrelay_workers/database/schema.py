"""Brings the tables up to date."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from importlib import resources

from sqlalchemy import (
    Connection,
    Engine,
    String,
    column,
    create_engine,
    event,
    func,
    inspect,
    select,
    table,
)
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.orm import Mapped, mapped_column

from dingrelay_producers.enqueuing.connections import read_clock
from dingrelay_producers.settings import Settings, SettingsError
from dingrelay_tasks.sentence import en
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import (
    BUSY_TIMEOUT_MS,
    ISOLATION,
    SQLITE_ARGUMENTS,
    Database,
    arguments,
    async_url,
    notice_pooler,
    prepare_sqlite,
)
from dingrelay_workers.database.errors import answering, unusable
from dingrelay_workers.database.person_columns import PersonColumns

VERSIONS = "schema_version"
"""The table with the revision."""
FORMER_VERSIONS = "alembic_version"
"""The version table of 0.2.0, which does not start at a revision unknown to it."""
RELEASED = "0004"
"""The newest revision that 0.2.0 knows, and the oldest that can be migrated."""
_LOCK_KEY = 0x64696E67
"""PostgreSQL's advisory lock that a migrating worker holds ("ding")."""

_DEADLOCK = "40P01"
"""PostgreSQL's code for a transaction that was given up since it and others waited for each other."""
_TRIES = 5
"""Attempts at a migration that was given up because a worker of the release before wrote during it."""

CONNECT_SECONDS = 10
"""Timeout of a connection to PostgreSQL, unless its URL or the environment says otherwise. The driver's own 130 s
can't be broken off in a thread: a command would hang for as long, though others had answered."""

_one_in_this_process = threading.Lock()


def migrate(settings: Settings) -> None:
    """Bring the tables up to date; usually there is nothing to do.

    Raises:
        ServiceUnavailable: the database can't be reached, or refuses us.
        SettingsError: its tables are of a newer release, with which this one does not work.
        ModuleNotFoundError: its driver is not installed.
    """
    try:
        upgrade(settings.database)
    except SQLAlchemyError as error:
        raise unusable(error) from None


@asynccontextmanager
async def opened(
    settings: Settings,
    database: Database | None = None,
    *,
    migrated: bool = False,
    busy_timeout_ms: int = BUSY_TIMEOUT_MS,
) -> AsyncGenerator[Database]:
    """The database with its tables up to date, while the block runs.

    Args:
        settings: where it is.
        database: of a process that serves many callers, which is open and has its tables. Without one connections are
            opened for the block, since the caller's event loop lives no longer.
        migrated: whether its tables are already up to date; bringing them so takes some 50 ms.
        busy_timeout_ms: how long a writer waits for others on SQLite.

    Raises:
        ServiceUnavailable: it can't be used.
    """
    if database is not None:
        async with answering(None):
            yield database
        return
    await read_clock(settings)
    if not migrated:
        await asyncio.to_thread(migrate, settings)
    database = Database(settings.database, busy_timeout_ms=busy_timeout_ms)
    try:
        async with answering(None):
            yield database
    finally:
        await database.dispose()


def upgrade(database_url: str) -> None:
    """Migrate to the newest revision; nothing to do is the usual case, and found out by one query.

    Any number of workers may start at once: one migrates while the others wait for it.

    Args:
        database_url: ``sqlite:///FILE`` or ``postgresql://…``.
    """
    engine = sync_engine(database_url)
    try:
        for tries_left in reversed(range(_TRIES)):
            try:
                _upgrade(engine)
            except OperationalError as error:
                if not tries_left or getattr(error.orig, "sqlstate", None) != _DEADLOCK:
                    raise
            else:
                return
    finally:
        engine.dispose()


def _upgrade(engine: Engine) -> None:
    with engine.connect() as connection:
        current = _revision(connection)
        if current == newest_revision():
            return
        if current is not None and current > newest_revision():
            _check_readers(connection, current)
            return
        if current is not None and current < RELEASED:
            raise SettingsError(
                "DINGRELAY_DATABASE_URL: its tables are of 0.1.0: upgrade to 0.2.0 first"
            )
        connection.rollback()
        # Alembic keeps its context in a global.
        with _one_in_this_process:
            _wait_for_our_turn(connection)
            _migrate(connection)
            connection.commit()


def revision(database_url: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    engine = sync_engine(database_url)
    try:
        with engine.connect() as connection:
            return _revision(connection)
    finally:
        engine.dispose()


@cache
def newest_revision() -> str:
    """The revision that this version of dingrelay works with: files begin with their number."""
    files = resources.files("dingrelay_workers").joinpath("migrations", "versions").iterdir()
    return max(file.name for file in files if file.name[:1].isdigit()).partition("_")[0]


def _revision(connection: Connection) -> str | None:
    for name in (VERSIONS, FORMER_VERSIONS):
        if inspect(connection).has_table(name):
            return connection.scalar(select(column("version_num", String)).select_from(table(name)))
    return None


def _check_readers(connection: Connection, current: str) -> None:
    """Whether this release works with the tables of a newer one.

    Raises:
        SettingsError: it does not.
    """
    newest = newest_revision()
    oldest = connection.scalar(select(func.max(SchemaReaders.oldest)))
    if oldest is None or oldest > newest:
        raise SettingsError(
            en(
                "DINGRELAY_DATABASE_URL: its tables are of a newer release (revision {}, this "
                "one knows {}): upgrade dingrelay here",
                current,
                newest,
            )
        )


def _migrate(connection: Connection) -> None:
    # It takes as long to import as all else that a command of ours needs, and has nothing to do.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    location = resources.files("dingrelay_workers").joinpath("migrations")
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    is_new = _revision(connection) is None
    config.attributes |= {"connection": connection, "version_table": VERSIONS, "is_new": is_new}
    (command.stamp if is_new else command.upgrade)(config, "head")


def sync_engine(database_url: str) -> Engine:
    """Connections for who has no event loop.

    Args:
        database_url: as `upgrade`.
    """
    url = async_url(database_url)
    if url.get_backend_name() != "sqlite":
        connect_args = {**_connect_timeout(), **arguments(database_url)}
        engine = create_engine(url, connect_args=connect_args, isolation_level=ISOLATION)
        event.listen(engine, "connect", notice_pooler)
        return engine
    engine = create_engine(url.set(drivername="sqlite"), connect_args=SQLITE_ARGUMENTS)
    event.listen(engine, "connect", prepare_sqlite)
    return engine


def _connect_timeout() -> dict[str, int]:
    return {} if "PGCONNECT_TIMEOUT" in os.environ else {"connect_timeout": CONNECT_SECONDS}


def _wait_for_our_turn(connection: Connection) -> None:
    """Begin the transaction in which the migration runs, as the only one."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))


class SchemaReaders(Base):
    """One row, which migrations rewrite that take away what older code needs.

    0.2.0 knows nothing of it: such a migration also writes its own revision into ``alembic_version``.

    Attributes:
        oldest: the newest revision that the oldest code knows which still works with the tables.
    """

    __tablename__ = "schema_readers"
    __people__ = PersonColumns(others="oldest")

    oldest: Mapped[str] = mapped_column(String(32), primary_key=True)
