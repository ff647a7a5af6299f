"""Scripts are learned once, and those that are called at once share a round trip."""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dingrelay_producers.store import script_functions, scripts
from dingrelay_producers.store.script_functions import Keys, script
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
    exchange = scripts._exchange  # pyright: ignore[reportPrivateUsage]

    async def counted(connection: AbstractConnection, commands: Any) -> list[Any]:
        found.append(len(commands))
        return await exchange(connection, commands)

    monkeypatch.setattr(scripts, "_exchange", counted)
    return found


async def test_calls_made_at_once_share_a_round_trip(valkey_url: str, trips: list[int]) -> None:
    echo = script_of(ECHO)
    async with AsyncRedis.from_url(valkey_url) as redis:
        calls = [run_async(redis, echo.call([], [number])) for number in range(50)]
        assert await asyncio.gather(*calls) == [str(number).encode() for number in range(50)]
    assert trips == [50]


async def test_later_calls_share_a_round_trip(valkey_url: str, trips: list[int]) -> None:
    echo = script_of(ECHO)

    async def ask(times: int) -> None:
        for number in range(times):
            await run_async(redis, echo.call([], [number]))

    async with AsyncRedis.from_url(valkey_url) as redis:
        await ask(1)
        first = asyncio.create_task(ask(3))
        while len(trips) < 2:  # noqa: ASYNC110 - no event says what left
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


TWICE = """
if texts[1] == 'wrong' then return redis.call('INCR', names[1], 'too many') end
if texts[1] == 'nonsense' then return nothing.there end
if texts[1] == 'absent' then return nil end
return {#names, redis.call('INCR', names[#names]), #texts, texts[#texts]}
"""


@script("tests", together=True)
def twice(*, names: Keys, texts: Sequence[str | int]) -> None: ...


class Together:
    """A script whose calls may go together."""

    def call(self, names: Sequence[str], texts: Sequence[str | int]) -> Call:
        return twice(names=names, texts=texts)

    @property
    def body(self) -> str:
        return twice.script.body


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Together:
    source = script_functions.source

    def known(package: str, name: str) -> str:
        return TWICE if package == "tests" else source(package, name)

    monkeypatch.setattr(script_functions, "source", known)
    return Together()


async def evals(redis: AsyncRedis) -> int:
    """How often Redis has run a script."""
    stats: Any = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


async def test_joined_calls_have_their_own_answers(valkey_url: str, together: Together) -> None:
    async with AsyncRedis.from_url(valkey_url) as redis:
        await redis.config_resetstat()
        calls = [together.call(["other"] * (n % 3) + [f"n{n}"], range(1 + n)) for n in range(5)]
        answers = await asyncio.gather(*(run_async(redis, call) for call in calls))
        assert answers == [[1 + n % 3, 1, 1 + n, str(n).encode()] for n in range(5)]
        # The first one taught Redis the script.
        assert await evals(redis) == 2
        assert [await redis.get(f"n{n}") for n in range(5)] == [b"1"] * 5


async def test_a_run_is_bounded(valkey_url: str, together: Together) -> None:
    async with AsyncRedis.from_url(valkey_url) as redis:
        await asyncio.gather(*(run_async(redis, together.call(["n"], [0])) for _ in range(2)))
        await run_async(redis, together.call(["n"], [0]))
        for count, size, runs in ((33, 1, 3), (4, 200, 2), (3, 1000, 3)):
            await redis.config_resetstat()
            calls = [run_async(redis, together.call(["n"], range(size))) for _ in range(count)]
            assert len({answer[1] for answer in await asyncio.gather(*calls)}) == count
            assert await evals(redis) == runs


async def test_a_failure_in_a_batch_is_one_calls(valkey_url: str, together: Together) -> None:
    async with AsyncRedis.from_url(valkey_url) as redis:
        words = ("a", "wrong", "b", "nonsense", "absent", "c")
        answers = await asyncio.gather(
            *(run_async(redis, together.call(["n"], [word])) for word in words),
            return_exceptions=True,
        )
    wrong, nonsense = answers.pop(1), answers.pop(2)
    assert isinstance(wrong, ResponseError)
    assert isinstance(nonsense, ResponseError)
    assert "nothing" in str(nonsense)
    assert answers == [[1, 1, 1, b"a"], [1, 2, 1, b"b"], None, [1, 3, 1, b"c"]]


async def test_a_replica_refuses_the_run(valkey_url: str, together: Together) -> None:
    """A connection learns by such an error that it has to look for the new primary."""
    async with AsyncRedis.from_url(valkey_url) as redis:
        await redis.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call]
        try:
            script = await redis.script_load(together.body)
            with pytest.raises(ReadOnlyError):
                await redis.evalsha(script, 1, "n", "", 1, 1, "a")
        finally:
            await redis.replicaof("NO", "ONE")  # type: ignore[no-untyped-call]


async def test_a_call_that_gives_up_takes_no_other_along(valkey_url: str) -> None:
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


async def test_a_lost_connection_ends_all_that_wait_for_it(unused_tcp_port: int) -> None:
    echo = script_of(ECHO)
    async with AsyncRedis(port=unused_tcp_port) as redis:
        calls = [run_async(redis, echo.call([], [number])) for number in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["ConnectionError"] * 3


def test_such_a_script_can_be_called_alone(valkey_url: str, together: Together) -> None:
    with Redis.from_url(valkey_url) as redis:
        assert run(redis, together.call(["n"], ["a"])) == [1, 1, 1, b"a"]
        assert run(redis, together.call(["n"], ["absent"])) is None
        with pytest.raises(ResponseError, match="nothing"):
            run(redis, together.call(["n"], ["nonsense"]))
