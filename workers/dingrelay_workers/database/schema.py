"""Brings the tables up to date."""

import threading
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.exc import SQLAlchemyError

from dingrelay_producers.errors import ServiceUnavailable
from dingrelay_producers.settings import Settings
from dingrelay_workers.database.database import SQLITE_ARGUMENTS, async_url, prepare_sqlite

_LOCK_KEY = 0x64696E67
"""PostgreSQL's advisory lock that a migrating worker holds ("ding")."""

_one_in_this_process = threading.Lock()


def migrate(settings: Settings) -> None:
    """Bring the tables up to date; usually there is nothing to do.

    Raises:
        ServiceUnavailable: the database can't be reached, or refuses us.
        ModuleNotFoundError: its driver is not installed.
    """
    try:
        upgrade(settings.database)
    except SQLAlchemyError as error:
        raise unusable(error) from None


def unusable(error: SQLAlchemyError) -> ServiceUnavailable:
    """What to say of the database's error, whose text may hold the URL, and with it the password."""
    return ServiceUnavailable(
        f"DINGRELAY_DATABASE_URL: the database can't be used ({type(error).__name__})"
    )


def upgrade(database_url: str) -> None:
    """Migrate to the newest revision; nothing to do is the usual case.

    Any number of workers may start at once: one migrates while the others wait for it.

    Args:
        database_url: ``sqlite:///FILE`` or ``postgresql://…``.
    """
    engine = _sync_engine(database_url)
    try:
        # Alembic keeps its context in a global.
        with _one_in_this_process, engine.connect() as connection:
            _wait_for_our_turn(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    finally:
        engine.dispose()


def revision(database_url: str) -> str | None:
    """The revision that the database is at; None before the first migration."""
    engine = _sync_engine(database_url)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def newest_revision() -> str | None:
    """The revision that this version of dingrelay works with."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    location = resources.files("dingrelay_workers").joinpath("migrations")
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    return config


def _sync_engine(database_url: str) -> Engine:
    url = async_url(database_url)
    if url.get_backend_name() != "sqlite":
        return create_engine(url)
    engine = create_engine(url.set(drivername="sqlite"), connect_args=SQLITE_ARGUMENTS)
    event.listen(engine, "connect", prepare_sqlite)
    return engine


def _wait_for_our_turn(connection: Connection) -> None:
    """Begin the transaction in which the migration runs, as the only one."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
