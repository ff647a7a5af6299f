"""What the soak calls growth."""

import asyncio
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from dingrelay_chaos.soak import BOUNDS, MORE_OF_OTHERS, Sample, grown
from dingrelay_workers.database.database import CONNECTIONS, OVERFLOW, Database


def series(what: str, before: float, after: float) -> list[Sample]:
    """Ten samples of a worker, of which the last three show the later value."""
    return [Sample(at, "w1", what, before if at < 7 else after) for at in range(10)]


@pytest.mark.parametrize(("what", "most"), BOUNDS.items())
def test_a_pool_may_grow_to_its_bound_and_no_further(what: str, most: float) -> None:
    assert grown(series(what, 12, most)) == []
    assert grown(series(what, 12, most + 1)) == [f"w1: {what} from 12 to {most + 1:.0f}"]


@pytest.mark.parametrize("what", ["descriptors", "threads"])
def test_samples_without_a_bound_may_not_grow(what: str) -> None:
    assert grown(series(what, 40, 40 + MORE_OF_OTHERS)) == []
    assert grown(series(what, 40, 41 + MORE_OF_OTHERS)) == [f"w1: {what} from 40 to 49"]


async def test_a_busy_moment_opens_as_many_files_as_the_bound_says(tmp_path: Path) -> None:
    file = tmp_path / "dingrelay.db"
    database = Database(f"sqlite:///{file}")
    async with database.write("app") as connection:
        await connection.execute(text("create table people (name)"))
    ended = asyncio.Event()
    open_now = asyncio.Semaphore(0)

    async def read() -> None:
        async with database.read() as connection:
            await connection.execute(text("select * from people"))
            open_now.release()
            await ended.wait()

    readers = [asyncio.create_task(read()) for _ in range(CONNECTIONS + OVERFLOW + 1)]
    for _ in range(CONNECTIONS + OVERFLOW):
        await open_now.acquire()
    assert open_files(file) == BOUNDS["database files"]
    ended.set()
    await asyncio.gather(*readers)
    await database.dispose()
    assert open_files(file) == 0


def open_files(file: Path) -> int:
    """How many descriptors of this process are of the database."""
    return sum(each.path.startswith(str(file)) for each in psutil.Process().open_files())
