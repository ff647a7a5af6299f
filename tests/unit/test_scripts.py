"""Scripts are learned once, and those that are called at once share a round trip."""

import asyncio
import hashlib
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_producers.store.scripts import Call, Script, run, run_async

ECHO = "return ARGV[1]"


def script_of(body: str) -> Script:
    return Script(body, hashlib.sha1(body.encode()).hexdigest())


def test_a_script_is_learned_once_and_called_by_content(valkey_url: str) -> None:
    body = "return {KEYS[1], ARGV[1]}"
    script = script_of(body)
    with Redis.from_url(valkey_url) as redis:
        redis.script_flush()
        call: Call = script.call(["k"], [7])
        assert run(redis, call) == [b"k", b"7"]
        assert redis.script_exists(script.sha) == [True]
        assert run(redis, call) == [b"k", b"7"]


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The commands of each round trip."""
    found: list[int] = []
    pack_commands = AbstractConnection.pack_commands

    def counted(self: AbstractConnection, commands: Any) -> Any:
        found.append(len(commands))
        return pack_commands(self, commands)

    monkeypatch.setattr(AbstractConnection, "pack_commands", counted)
    return found


async def test_calls_made_at_once_share_a_round_trip(valkey_url: str, trips: list[int]) -> None:
    echo = script_of(ECHO)
    async with AsyncRedis.from_url(valkey_url) as redis:
        calls = [run_async(redis, echo.call([], [number])) for number in range(50)]
        assert await asyncio.gather(*calls) == [str(number).encode() for number in range(50)]
    assert trips == [50]


async def test_who_asks_on_shares_a_round_trip_with_who_came_meanwhile(
    valkey_url: str, trips: list[int]
) -> None:
    echo = script_of(ECHO)

    async def ask(times: int) -> None:
        for number in range(times):
            await run_async(redis, echo.call([], [number]))

    async with AsyncRedis.from_url(valkey_url) as redis:
        await ask(1)
        first = asyncio.create_task(ask(3))
        while len(trips) < 2:  # noqa: ASYNC110 - no event tells what left
            await asyncio.sleep(0)
        await asyncio.gather(first, ask(3))
    assert trips == [1, 1, 2, 2, 1]


async def test_a_call_that_fails_fails_alone(valkey_url: str) -> None:
    echo, wrong = script_of(ECHO), script_of("return redis.error_reply('no')")
    async with AsyncRedis.from_url(valkey_url) as redis:
        answers = await asyncio.gather(
            run_async(redis, echo.call([], [1])),
            run_async(redis, wrong.call([])),
            run_async(redis, echo.call([], [2])),
            return_exceptions=True,
        )
    assert answers[0] == b"1"
    assert isinstance(answers[1], ResponseError)
    assert answers[2] == b"2"


async def test_who_gives_up_takes_nobody_along(valkey_url: str) -> None:
    echo = script_of(ECHO)
    async with AsyncRedis.from_url(valkey_url) as redis:
        first = asyncio.create_task(run_async(redis, echo.call([], [1])))
        second = asyncio.create_task(run_async(redis, echo.call([], [2])))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"2"
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_late_answer_is_given_up_and_is_nobody_elses(valkey_url: str) -> None:
    echo = script_of(ECHO)
    options: dict[str, Any] = {"socket_timeout": 0.1, "retry": Retry(NoBackoff(), 0)}
    with Redis.from_url(valkey_url) as other:
        other.script_load(echo.body)
        async with AsyncRedis.from_url(valkey_url, max_connections=1, **options) as redis:
            assert await run_async(redis, echo.call([], [1])) == b"1"
            other.client_pause(60_000, all=False)
            try:
                with pytest.raises(RedisTimeoutError):
                    await run_async(redis, echo.call([], [2]))
            finally:
                other.client_unpause()
            assert await run_async(redis, echo.call([], [3])) == b"3"


async def test_all_hear_of_a_connection_that_is_gone(unused_tcp_port: int) -> None:
    echo = script_of(ECHO)
    async with AsyncRedis(port=unused_tcp_port) as redis:
        calls = [run_async(redis, echo.call([], [number])) for number in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["ConnectionError"] * 3
