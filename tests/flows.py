"""Runs on an event loop what the product's threads run: generators that yield calls of scripts."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.scripts import Call, run_async
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.store.connections import open_redis


async def run_flow(redis: Redis, flow: Generator[Call, Any, None]) -> None:
    answer: Any = None
    with suppress(StopIteration):
        while True:
            answer = await run_async(redis, flow.send(answer))


@asynccontextmanager
async def beats_on_loop(settings: Settings, presence: Presence) -> AsyncGenerator[None]:
    """The heartbeats of a worker as a task of the loop, over a connection of their own; see `Surroundings`."""
    redis = open_redis(settings)

    async def beat() -> None:
        while True:
            await run_flow(redis, presence.beat())
            await asyncio.sleep(presence.period)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await run_flow(redis, presence.leave())
        await redis.aclose()
