"""One cache of compiled SQL for all engines of a process; the tests have it, too."""

from typing import Any

from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg
from sqlalchemy.dialects.sqlite.aiosqlite import SQLiteDialect_aiosqlite
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache


def share_compiled() -> None:
    """Compile each statement once a process; every simulated process, and every test, has engines of its own.

    What is compiled is found by the dialect, and all our engines of a database have dialects of one configuration.
    """
    compiled: Any = LRUCache(4_000)
    engine: Any = Engine

    def one_cache(_: Any) -> Any:
        return compiled

    def keep(*_: Any) -> None:
        """Leave the one cache where an engine sets its own."""

    def is_alike(dialect: Any, other: Any) -> bool:
        return type(dialect) is type(other)

    def hash_of(dialect: Any) -> int:
        return hash(type(dialect))

    engine._compiled_cache = property(one_cache, keep)
    for kind in (SQLiteDialect_aiosqlite, PGDialectAsync_psycopg):
        dialect: Any = kind
        dialect.__eq__, dialect.__hash__ = is_alike, hash_of
