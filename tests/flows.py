"""Runs flows on an event loop that a thread runs in the product."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from redis.asyncio import Redis

from dingrelay_producers.settings import Settings
from dingrelay_producers.store.flows import Flow, T, run_flow_async, run_step_async
from dingrelay_workers.maintenance.presence import Presence
from dingrelay_workers.store.connections import open_redis


async def run_flow(redis: Redis, flow: Flow[T]) -> T:
    return await run_flow_async(flow, partial(run_step_async, redis))


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
