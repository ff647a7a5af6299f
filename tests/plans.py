"""How a database carries out the statements of a block."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from dingrelay_workers.database.database import Database

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
