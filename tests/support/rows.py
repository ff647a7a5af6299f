"""Rows in SQL: a test names the columns that it is about, and the others are filled."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args, get_origin

from sqlalchemy import func, insert, select, update

from dingrelay_workers.database.base import Base
from dingrelay_workers.database.database import Database

LONG_AGO = datetime.now(UTC) - timedelta(days=3)


def filled(table: type[Base], fields: dict[str, Any]) -> dict[str, Any]:
    """A row: columns that must have a value are of the app `default`, `LONG_AGO`, zero or empty."""
    row = {}
    for column in table.__table__.columns:
        counted = column is table.__table__.autoincrement_column  # type: ignore[attr-defined]
        if not (column.nullable or column.server_default is not None or counted):
            row[column.name] = _filling(table, column.name)
    return row | fields


async def put(database: Database, table: type[Base], *rows: dict[str, Any]) -> None:
    """Insert rows that name the same columns."""
    async with database.write("tests") as connection:
        await connection.execute(insert(table), [filled(table, row) for row in rows])


async def change(database: Database, table: type[Base], *where: Any, **values: Any) -> None:
    """Give columns of these rows, or of all, other values."""
    async with database.write("tests") as connection:
        await connection.execute(update(table).where(*where).values(**values))


async def count(database: Database, table: type[Base], *where: Any) -> int:
    """How many of a table's rows are like that."""
    async with database.read() as connection:
        found = await connection.scalar(select(func.count()).select_from(table).where(*where))
    return found or 0


async def all_of(database: Database, table: type[Base], *where: Any) -> list[dict[str, Any]]:
    """A table's rows, or those that are like that."""
    async with database.read() as connection:
        found = await connection.execute(select(table.__table__).where(*where))
        return [dict(row) for row in found.mappings()]


def _filling(table: type[Base], name: str) -> Any:
    (kind,) = get_args(table.__annotations__[name])
    kind = get_origin(kind) or kind
    return {"app": "default"}.get(name, LONG_AGO if kind is datetime else kind())
