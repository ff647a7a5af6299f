"""Cost of HTTP itself: a bare aiohttp handler that pushes the body to a list of Redis."""

import asyncio
import os

import uvloop
from aiohttp import web
from redis.asyncio import Redis

LIST = "bench:pushed"


async def _serve() -> None:
    redis = Redis.from_url(os.environ["DINGRELAY_REDIS_URL"])

    async def push(request: web.Request) -> web.Response:
        await redis.lpush(LIST, await request.read())
        return web.Response(status=202)

    app = web.Application()
    app.router.add_post("/v1/messages", push)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
