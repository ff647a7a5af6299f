"""How long a body may run, and that a worker which stops shortens it."""

import asyncio

import pytest

from dingrelay_workers.maintenance.presence import Deadlines


async def body(deadlines: Deadlines) -> None:
    async with deadlines.kept():
        await asyncio.sleep(600)


async def test_a_body_is_ended_after_its_time() -> None:
    with pytest.raises(TimeoutError):
        await body(Deadlines(0.01))


async def test_a_worker_that_stops_ends_those_that_run_and_those_that_come() -> None:
    deadlines = Deadlines(600)
    async with deadlines.kept():
        pass  # what is over is left alone
    runs = [asyncio.create_task(body(deadlines)) for _ in range(3)]
    await asyncio.sleep(0)
    deadlines.shorten(0.01)
    runs.append(asyncio.create_task(body(deadlines)))
    found = await asyncio.gather(*runs, return_exceptions=True)
    assert [type(each) for each in found] == [TimeoutError] * 4
