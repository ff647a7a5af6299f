"""A flow is one body for a thread and for an event loop: both drivers give it the same answers and errors."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError, ResponseError

from dingrelay_producers.store import scripts
from dingrelay_producers.store.flows import (
    Flow,
    Step,
    run_flow,
    run_flow_async,
    run_step,
    run_step_async,
)
from dingrelay_producers.store.scripts import Script

ECHO = Script.of("return ARGV[1]")
FAIL = Script.of("return redis.error_reply('NO ' .. ARGV[1])")
COUNT = Script.of("return redis.call('INCR', KEYS[1])")

Driver = Callable[[Flow[Any]], Any]


def in_thread(url: str, flow: Flow[Any]) -> Any:
    with Redis.from_url(url) as redis:
        return run_flow(flow, partial(run_step, redis))


def on_loop(url: str, flow: Flow[Any]) -> Any:
    async def drive() -> Any:
        async with AsyncRedis.from_url(url) as redis:
            return await run_flow_async(flow, partial(run_step_async, redis))

    return asyncio.run(drive())


@pytest.fixture(params=[in_thread, on_loop])
def drive(request: pytest.FixtureRequest, valkey_url: str) -> Driver:
    """One of the two drivers."""
    return partial(request.param, valkey_url)


def test_a_flow_receives_answers_and_ends_with_its_result(drive: Driver) -> None:
    def add() -> Flow[int]:
        first = yield ECHO.call([], [1])
        second = yield ECHO.call([], [int(first) + 1])
        return int(first) + int(second)

    assert drive(add()) == 3


def test_a_flow_without_a_step_ends_at_once(drive: Driver) -> None:
    def know() -> Flow[str]:
        return "known"
        yield ()

    assert drive(know()) == "known"


@pytest.mark.parametrize("count", [0, 1, 30])
def test_several_calls_are_answered_by_a_list(drive: Driver, count: int) -> None:
    def ask() -> Flow[list[bytes]]:
        answers: list[bytes] = yield [ECHO.call([], [number]) for number in range(count)]
        return answers

    assert drive(ask()) == [str(number).encode() for number in range(count)]


@pytest.mark.parametrize("several", [False, True])
def test_an_error_is_raised_at_the_yield_and_the_flow_goes_on(
    drive: Driver, valkey_url: str, *, several: bool
) -> None:
    with Redis.from_url(valkey_url) as redis:
        redis.script_flush()  # as after a failover
    failing = FAIL.call([], ["room"])

    def recover() -> Flow[tuple[str, int]]:
        try:
            yield [failing, COUNT.call(["counted"])] if several else failing
        except ResponseError as error:
            return str(error), (yield COUNT.call(["counted"]))
        raise AssertionError

    # The call behind the one that failed was carried out.
    assert drive(recover()) == ("NO room", 2 if several else 1)


def test_an_error_that_a_flow_does_not_catch_is_the_callers(drive: Driver) -> None:
    cleaned: list[str] = []

    def fail() -> Flow[None]:
        try:
            yield FAIL.call([], ["room"])
        finally:
            cleaned.append("yes")

    with pytest.raises(ResponseError, match="NO room"):
        drive(fail())
    assert cleaned == ["yes"]


def test_a_caller_may_replace_the_errors_of_its_connection() -> None:
    def refuse(step: Step) -> Any:
        raise ConnectionAbortedError(step)

    def ask() -> Flow[str]:
        try:
            yield ECHO.call([], [1])
        except RedisError:
            return "Redis's"
        except ConnectionAbortedError:
            return "the caller's"
        raise AssertionError

    assert run_flow(ask(), refuse) == "the caller's"


async def test_calls_of_two_flows_share_a_round_trip(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(number: int) -> Flow[int]:
        first = yield ECHO.call([], [number])
        return int((yield ECHO.call([], [first])))

    trips: list[int] = []
    exchange = scripts._exchange  # pyright: ignore[reportPrivateUsage]

    async def counted(connection: Any, commands: Any) -> list[Any]:
        trips.append(len(commands))
        return await exchange(connection, commands)

    monkeypatch.setattr(scripts, "_exchange", counted)
    async with AsyncRedis.from_url(valkey_url) as redis:
        carry_out = partial(run_step_async, redis)
        flows = [run_flow_async(ask(number), carry_out) for number in range(20)]
        assert await asyncio.gather(*flows) == list(range(20))
    assert trips == [20, 20]


async def test_a_cancelled_flow_cleans_up() -> None:
    waiting, cleaned = asyncio.Event(), asyncio.Event()

    async def wait(_: Step) -> Any:
        waiting.set()
        await asyncio.Event().wait()

    def ask() -> Flow[None]:
        try:
            yield ECHO.call([], [1])
        finally:
            cleaned.set()

    task = asyncio.create_task(run_flow_async(ask(), wait))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned.is_set()
