"""arq: one POST a job. ``python -m peers.arq FIRST COUNT`` enqueues so many."""

import asyncio
import os
import sys
from typing import Any, ClassVar

from arq import create_pool
from arq.connections import RedisSettings

from peers.dingtalk_async import send

REDIS = RedisSettings.from_dsn(os.environ["DINGRELAY_REDIS_URL"])


async def send_text(ctx: dict[str, Any], user: str, text: str) -> None:
    """Send."""
    await send(user, text)


class WorkerSettings:
    """The settings for ``arq peers.arq.WorkerSettings``."""

    functions: ClassVar = [send_text]
    redis_settings = REDIS
    max_jobs = 32


async def enqueue(first: int, count: int) -> None:
    """Enqueue so many jobs from a number on."""
    pool = await create_pool(REDIS)
    for number in range(first, first + count):
        await pool.enqueue_job("send_text", f"u{number % 2_000 + 1}", f"text {number}")
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(int(sys.argv[1]), int(sys.argv[2])))
