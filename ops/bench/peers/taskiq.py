"""taskiq on a Redis stream: one POST a job. ``python -m peers.taskiq FIRST COUNT`` enqueues so many."""

import asyncio
import os
import sys

from taskiq_redis import RedisStreamBroker

from peers.dingtalk_async import send

broker = RedisStreamBroker(url=os.environ["DINGRELAY_REDIS_URL"])


@broker.task(task_name="send_text")
async def send_text(user: str, text: str) -> None:
    """Send."""
    await send(user, text)


async def enqueue(first: int, count: int) -> None:
    """Enqueue so many jobs from a number on."""
    await broker.startup()
    for number in range(first, first + count):
        await send_text.kiq(f"u{number % 2_000 + 1}", f"text {number}")
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1]), int(sys.argv[2])))
