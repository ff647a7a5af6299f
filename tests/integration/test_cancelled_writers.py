"""A cancelled writer of SQLite keeps no other one waiting, wherever it was cancelled."""

import asyncio
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import event, text

from dingrelay_workers.database.database import Database

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
