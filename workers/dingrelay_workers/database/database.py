"""The database behind the directory: its URL, its connections, and who may write."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar, TypeVarTuple
from zlib import crc32

from sqlalchemy import (
    URL,
    ColumnElement,
    Insert,
    Row,
    Select,
    event,
    func,
    literal,
    make_url,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import TimeoutError as SilenceError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.pool import ConnectionPoolEntry

from dingrelay_producers.client.filters import ListFilter, SeenFilter
from dingrelay_tasks.contract import batched
from dingrelay_workers.database import libpq
from dingrelay_workers.database.base import Base
from dingrelay_workers.database.sqlite_connections import ConnectionThreads

BUSY_TIMEOUT_MS = 30_000
"""How long a writer waits for other processes' transactions on SQLite."""
REQUEST_BUSY_TIMEOUT_MS = 500
"""The same for a request, which has 2 s for an answer."""

TURN_PAUSE = 0.02
"""Seconds between two tries to turn a new database to WAL."""

IDLE_TIMEOUT_MS = 60_000
"""How long a process that stands still may keep other writers waiting on PostgreSQL, before its
transaction is given up. SQLite knows no such thing: there a stopped process is waited for."""

JOB_WAIT = 1.0
"""Seconds that a job waits for one of the places for jobs, while it takes up one of the worker's."""
JOB_QUEUE = 5.0
"""The same after the last use of the database that ended well: then it is busy and not silent."""
JOB_USE = 10.0
"""Seconds for one use of the database by a job, while no other one ends well. What jobs do there takes
milliseconds, but for their turn as the writer."""
JOB_LONGEST = 60.0
"""Seconds for either, however busy the database is."""

LET_IN = 0.11
"""Seconds between two transactions of a bulk writer: waiting writers of SQLite look every 0.1 s."""
OWN_TURN = 0.5
"""Seconds for which a process's writers of SQLite follow one another until those of other processes are let in."""

CONNECTIONS, OVERFLOW = 5, 10
"""Connections of one process: those that stay open, and those that are opened beside them in a busy moment."""
POOL = {"pool_size": CONNECTIONS, "max_overflow": OVERFLOW}

ISOLATION = "READ COMMITTED"
"""A writer's isolation level on PostgreSQL, whatever its own default is: one that has waited for its turn reads what was
committed before it."""

CHUNK = 500
"""Values in one IN list; every SQLite takes at least 999."""

SQLITE_ARGUMENTS = {"isolation_level": None}
"""Transactions are begun by us: the driver would begin one late and as a reader, and a reader
can't turn into a writer while another one writes."""

Value = TypeVar("Value")
_Columns = TypeVarTuple("_Columns")

POSTGRESQL = URL.create("postgresql+psycopg")
"""Names the driver; everything else comes from `arguments`."""


def async_url(url: str) -> URL:
    """The URL with the driver that the workers use.

    Raises:
        ValueError: it names neither SQLite nor PostgreSQL.
    """
    match url.partition(":")[0]:
        case "postgresql":
            return POSTGRESQL
        case "sqlite":
            return make_url(url).set(drivername="sqlite+aiosqlite")
        case _:
            raise ValueError("DINGRELAY_DATABASE_URL: must begin with sqlite: or postgresql:")


def arguments(url: str) -> dict[str, Any]:
    """The driver's arguments beside `async_url`.

    Raises:
        SettingsError, ModuleNotFoundError: as `libpq.parameters`.
    """
    return libpq.parameters(url) if async_url(url) is POSTGRESQL else {}


def notice_pooler(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Prepare nothing on a connection whose server another may have in the next transaction.

    A pooler such as pgbouncer gives its clients a number of its own for the server process.
    """
    driver = getattr(connection, "driver_connection", connection)
    cursor = connection.cursor()
    cursor.execute("select pg_backend_pid()")
    (serving,) = cursor.fetchone()
    cursor.close()
    connection.rollback()
    if serving != driver.info.backend_pid:
        driver.prepare_threshold = None


class Database:
    """Connections of one process.

    An app has one writer at a time in the whole fleet. What a writer has read can't change under
    it, so reading, comparing and writing need no further care; and DingTalk's limits keep
    writing far below what one writer does.

    Args:
        url: ``sqlite:///FILE`` or ``postgresql://…``.
        busy_timeout_ms: how long a writer waits for other processes' transactions on SQLite. Nothing
            else ends that wait: a cancelled writer returns only when it is over.
    """

    def __init__(self, url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self._url = async_url(url)
        self._threads = ConnectionThreads()
        self.engine = _engine(self._url, busy_timeout_ms, arguments(url), self._threads)
        self._writing = self.engine
        if not self.is_sqlite:
            self._writing = self.engine.execution_options(isolation_level=ISOLATION)
        self._writers = _Writers()
        self._places: _Places | None = None

    def limited(self, places: int) -> Self:
        """The same database for jobs, of which so many use it at a time, each for `JOB_USE` seconds at most.

        So a database that is silent holds up a share of a worker's jobs, and not those that need none. Beyond
        either limit a use raises sqlalchemy.exc.TimeoutError, as a full pool does.
        """
        database = copy(self)
        database._places = _Places(places)  # noqa: SLF001 - its own class
        return database

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite rather than PostgreSQL."""
        return self._url.get_backend_name() == "sqlite"

    async def has(self, table: type[Base]) -> bool:
        """Whether there is this table; looking does not create a database.

        What stands in a database's place is no reason to say that it has no tables.

        Raises:
            SQLAlchemyError: the database is away.
        """
        path = Path(self._url.database or "")
        if self.is_sqlite and not await asyncio.to_thread(path.exists):
            return False
        # SQLAlchemy's own way takes several round trips.
        look = "select to_regclass(:name)"
        if self.is_sqlite:
            look = "select name from sqlite_master where name = :name"
        async with self.read() as connection:
            table_name = await connection.scalar(text(look), {"name": table.__tablename__})
            return table_name is not None

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection, None]:
        """A connection for reading what is committed."""
        async with self._use(), self.engine.connect() as connection:
            yield connection

    async def pages(
        self, query: Select[*_Columns], key: InstrumentedAttribute[Any], size: int
    ) -> AsyncIterator[Sequence[Row[*_Columns]]]:
        """The query's rows by a key, in pages; no transaction stays open between pages."""
        query = query.order_by(key).limit(size)
        page = query
        while True:
            async with self.read() as connection:
                rows = (await connection.execute(page)).all()
            if rows:
                yield rows
            if len(rows) < size:
                return
            page = query.where(key > getattr(rows[-1], key.key))

    @asynccontextmanager
    async def snapshot(self) -> AsyncGenerator[AsyncConnection, None]:
        """A connection for reading what is committed at one moment, in several questions."""
        async with self._use(), self.engine.connect() as connection:
            if self.is_sqlite:
                await connection.exec_driver_sql("BEGIN")
            else:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @asynccontextmanager
    async def write(self, app: str) -> AsyncGenerator[AsyncConnection, None]:
        """The transaction of the app's only writer; commits unless the block raises."""
        if not self.is_sqlite:
            async with self._use(), self._writing.begin() as connection:
                timeout = func.set_config(
                    "idle_in_transaction_session_timeout", str(IDLE_TIMEOUT_MS), True
                )
                await connection.execute(select(timeout, _turn_of(app)))
                yield connection
            return
        async with self._use(), self._writers.turn(), self._writing.begin() as connection:
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _use(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._places is None else self._places.hold()

    async def let_others_write(self) -> None:
        """Between two of many transactions: other writers of SQLite have their turn."""
        await asyncio.sleep(LET_IN if self.is_sqlite else 0)

    async def dispose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()
        await self._threads.end()


def _turn_of(writer: str) -> ColumnElement[Any]:
    return func.pg_advisory_xact_lock(crc32(f"dingrelay directory {writer}".encode()))


async def write_as(connection: AsyncConnection, writer: str) -> None:
    """Be another writer as well for the rest of a writer's transaction; no transaction of that one may turn into this one's.

    On SQLite the database has one writer at a time anyway.
    """
    if connection.dialect.name != "sqlite":
        await connection.execute(select(_turn_of(writer)))


class _Writers:
    """The writers of one process on SQLite, whose own waiting polls: within the process a lock is faster and fair.

    Those of another process would poll in vain for as long as one follows the other here: its jobs gave up, and
    read again at DingTalk what they were to write.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._turn_ends = 0.0

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None, None]:
        """Write in the block, alone in this process."""
        now = asyncio.get_running_loop().time
        if not self._lock.locked():
            self._turn_ends = now() + OWN_TURN
        async with self._lock:
            if now() > self._turn_ends:
                await asyncio.sleep(LET_IN)
                self._turn_ends = now() + OWN_TURN
            yield


class _Places:
    """How many jobs of one process use the database at a time, and how long each waits for it.

    A queue that moves is no silence: with each use that ends well the others may wait on. The writers
    of an app take turns, and a department that was read and not written is read again.
    """

    def __init__(self, number: int) -> None:
        self._free = asyncio.Semaphore(number)
        self._holders: set[asyncio.Task[Any] | None] = set()
        self._limits: dict[asyncio.Timeout, tuple[float, float]] = {}
        self._answered_at = float("-inf")
        self._is_silent = False

    @asynccontextmanager
    async def hold(self) -> AsyncGenerator[None, None]:
        """A place, for as long as the block runs; a block within another one needs none."""
        task = asyncio.current_task()
        if task in self._holders:
            yield
            return
        now = asyncio.get_running_loop().time()
        if not self._holders and not self._is_silent:
            self._answered_at = now  # nothing was asked
        wait = max(JOB_WAIT, self._answered_at + JOB_QUEUE - now)
        async with self._limit(wait, JOB_QUEUE, "all places for jobs are in use"):
            await self._free.acquire()
        self._holders.add(task)
        try:
            async with self._limit(JOB_USE, JOB_USE, "the database did not answer in time"):
                yield
            self._note_answer()
        finally:
            self._holders.discard(task)
            self._free.release()

    @asynccontextmanager
    async def _limit(self, seconds: float, more: float, problem: str) -> AsyncGenerator[None, None]:
        """End the block after some seconds, or so many `more` after the last use that ended well."""
        last = asyncio.get_running_loop().time() + JOB_LONGEST
        try:
            async with asyncio.timeout(seconds) as limit:
                self._limits[limit] = (more, last)
                try:
                    yield
                finally:
                    del self._limits[limit]
        except TimeoutError:
            self._is_silent = True
            raise SilenceError(problem) from None

    def _note_answer(self) -> None:
        self._is_silent = False
        self._answered_at = now = asyncio.get_running_loop().time()
        for limit, (more, last) in self._limits.items():
            if not limit.expired():
                limit.reschedule(min(now + more, last))


async def upsert(
    connection: AsyncConnection,
    table: type[Base],
    rows: Sequence[dict[str, Any]],
    *,
    latest_by: str = "",
) -> None:
    """Insert the rows; where the primary key is there already, overwrite the other columns.

    With `latest_by`, a column, a row stays as it is if it is later by that.
    """
    if not rows:
        return
    statement = _upsert(connection.dialect.name, table, tuple(rows[0]), latest_by)
    await connection.execute(statement, list(rows))


@cache
def _upsert(dialect_name: str, table: type[Base], names: tuple[str, ...], latest_by: str) -> Insert:
    """The statement for rows with these columns; to make one takes longer than to execute it."""
    dialect = sqlite if dialect_name == "sqlite" else postgresql
    insert = dialect.insert(table)
    keys = [column.name for column in table.__table__.primary_key]
    values = {name: insert.excluded[name] for name in names if name not in keys}
    where = insert.excluded[latest_by] >= getattr(table, latest_by) if latest_by else None
    statement: Insert = insert.on_conflict_do_update(index_elements=keys, set_=values, where=where)
    return statement


async def change_rows(
    connection: AsyncConnection, table: type[Base], *where: ColumnElement[bool], **values: Any
) -> int:
    """Change the rows for which all of this holds; how many they were."""
    changed = await connection.execute(update(table).where(*where).values(values))
    return changed.rowcount


async def insert_missing(
    connection: AsyncConnection, table: type[Base], rows: Sequence[dict[str, Any]]
) -> None:
    """Insert the rows whose key is not there yet."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    await connection.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))


def latest_first(
    query: Select[Any],
    *columns: InstrumentedAttribute[Any],
    behind: Sequence[Any] | None,
    limit: int,
) -> Select[Any]:
    """A page of a list in the descending order of these columns, behind the row with these values.

    It compares whole rows: a database finds those in an index, and reads all rows for `a < x OR (a = x AND b < y)`.
    """
    page = query.order_by(*(column.desc() for column in columns)).limit(limit)
    if behind is None:
        return page
    values = [literal(value, column.type) for value, column in zip(behind, columns, strict=True)]
    return page.where(tuple_(*columns) < tuple_(*values))


def narrowed(query: Select[Any], table: Any, list_filter: ListFilter) -> Select[Any]:
    """The query, of those rows only that have what a filter asks for in their columns of the same names."""
    for name, value in list_filter.equal.items():
        query = query.where(getattr(table, name) == value)
    if isinstance(list_filter, SeenFilter) and list_filter.apps is not None:
        query = query.where(table.app.in_(list_filter.apps))
    return query


async def rows_among(
    connection: AsyncConnection,
    query: Select[*_Columns],
    column: ColumnElement[Any] | InstrumentedAttribute[Any],
    values: Collection[Any],
) -> list[Row[*_Columns]]:
    """The rows of a query that have one of these values in a column, however many those are."""
    return [
        row
        for batch in chunks(values)
        for row in await connection.execute(query.where(column.in_(batch)))
    ]


def chunks(values: Collection[Value], most: int = CHUNK) -> Iterator[list[Value]]:
    """The values in lists short enough for one statement, of `most` values each."""
    return batched(list(values), most)


def _engine(
    url: URL, busy_timeout_ms: int, more: dict[str, Any], threads: ConnectionThreads
) -> AsyncEngine:
    if url.get_backend_name() != "sqlite":
        # A reader's statement needs no transaction: that would be two more exchanges.
        engine = create_async_engine(
            url,
            pool_pre_ping=True,
            connect_args=more,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            **POOL,
        )
        event.listen(engine.sync_engine, "connect", notice_pooler)
        return engine
    open_by = {"async_creator_fn": threads.connect}
    engine = create_async_engine(url, connect_args={**SQLITE_ARGUMENTS, **open_by}, **POOL)

    def prepare(connection: Any, entry: ConnectionPoolEntry) -> None:
        def pause() -> None:
            # The event comes on the loop, which must not stand still.
            connection.run_async(_pause)

        _prepare(connection, busy_timeout_ms, pause)

    event.listen(engine.sync_engine, "connect", prepare)
    return engine


async def _pause(_: object) -> None:
    await asyncio.sleep(TURN_PAUSE)


def prepare_sqlite(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    """Patient writers, readers beside a writer, and foreign keys."""
    _prepare(connection, BUSY_TIMEOUT_MS, lambda: time.sleep(TURN_PAUSE))


def _prepare(
    connection: DBAPIConnection, busy_timeout_ms: int, pause: Callable[[], object]
) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {busy_timeout_ms}")
    _turn_to_wal(cursor, busy_timeout_ms, pause)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _turn_to_wal(cursor: DBAPICursor, busy_timeout_ms: int, pause: Callable[[], object]) -> None:
    """Let readers read beside a writer.

    Of processes that open a new database at once, one turns it; SQLite does not let the others
    wait for that, whatever the timeout.
    """
    deadline = time.monotonic() + busy_timeout_ms / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            pause()
        else:
            return
