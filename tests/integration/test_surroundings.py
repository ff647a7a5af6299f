"""Several workers in one process and on one loop, each with the surroundings that it is given."""

import threading
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
from aiohttp import web
from redis.asyncio import Redis

from conftest import wait_until_async
from dingrelay_producers.publisher import Publisher
from dingrelay_producers.settings import Settings
from dingrelay_producers.store import keys
from dingrelay_workers.dingtalk.apis import Api
from dingrelay_workers.dingtalk.request import Request
from dingrelay_workers.resources import Resources, Surroundings
from support.workers import beats_on_loop

NAMES = {b"host:1:a", b"host:1:b", b"host:1:c"}


async def test_three_workers_of_one_process_are_three_and_need_no_thread(
    valkey_url: str, redis: Redis
) -> None:
    settings = Settings.load(env="test", redis_url=valkey_url)
    async with AsyncExitStack() as stack:
        for name in sorted(NAMES):
            around = Surroundings(worker=name.decode(), heartbeat=beats_on_loop)
            worker = Resources(
                settings,
                Publisher(settings),
                queues=["dingrelay.normal"],
                surroundings=around,
            )
            await stack.enter_async_context(worker)

        async def all_known() -> bool:
            return {*await redis.hkeys(keys.PRESENCE)} == NAMES

        await wait_until_async(all_known, what="each gives its own sign")
        assert not [each for each in threading.enumerate() if "presence" in each.name]
    assert await redis.hkeys(keys.PRESENCE) == []


async def test_calls_of_dingtalk_go_by_the_connector_that_is_given(
    valkey_url: str, tmp_path: Path
) -> None:
    paths: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        paths.append(request.path)
        return web.json_response({"errcode": 0})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    place = str(tmp_path / "dingtalk")
    await web.UnixSite(runner, place).start()
    nowhere = "http://127.0.0.1:1"
    settings = Settings.load(
        env="sandbox", redis_url=valkey_url, DINGTALK_OAPI_URL=nowhere, DINGTALK_API_URL=nowhere
    )
    around = Surroundings(connector=aiohttp.UnixConnector(place))
    async with Resources(settings, Publisher(settings), surroundings=around) as worker:
        api = Api("contacts.read", "oapi", "POST", "/topapi/v2/user/get")
        assert await worker.transport.request(Request(api), "token") == {"errcode": 0}
    assert paths == ["/topapi/v2/user/get"]
    await runner.cleanup()
