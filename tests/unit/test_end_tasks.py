import asyncio

from dingrelay_workers.store.connections import end_tasks


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost == 2:
                    raise
                lost += 1

    tasks = [asyncio.create_task(work()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await end_tasks(tasks)
    assert lost == 2
    assert all(task.cancelled() for task in tasks)


async def test_nothing_to_end_is_no_problem() -> None:
    await end_tasks([])
